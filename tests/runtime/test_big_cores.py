"""Big cores, counted in a made-up /sys/devices/system/cpu."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dareq_runtime import big_cores as module
from dareq_runtime.big_cores import big_cores

PIXEL_6 = [160] * 4 + [498] * 2 + [1024] * 2  # orders of magnitude of a phone with three kinds of core
PHONE = [270] * 2 + [790] * 5 + [1024]


def system(folder: Path, numbers: Sequence[int], file: str) -> Path:
    for core, number in enumerate(numbers):
        path = folder / f"cpu{core}" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    return folder


@pytest.fixture(autouse=True)
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: tuple(range(8)))


@pytest.mark.parametrize(("capacities", "big"), [(PHONE, 6), (PIXEL_6, 2), ([1024] * 8, 8), ([512] + [1024] * 7, 8)])
def test_capacity_decides(tmp_path: Path, capacities: list[int], big: int) -> None:
    system(tmp_path, [1] * 8, "cpufreq/cpuinfo_max_freq")
    assert big_cores(system(tmp_path, capacities, "cpu_capacity")) == big


def test_clocks_decide_where_there_is_no_capacity(tmp_path: Path) -> None:
    assert big_cores(system(tmp_path, [1_400_000] * 6 + [3_000_000] * 2, "cpufreq/cpuinfo_max_freq")) == 2


def test_without_complete_figures_all_cores_count(tmp_path: Path) -> None:
    assert big_cores(tmp_path) == 8
    assert big_cores(system(tmp_path, [1024] * 7, "cpu_capacity")) == 8
    (tmp_path / "cpu3" / "cpu_capacity").write_text("unknown")
    assert big_cores(system(tmp_path, [200] * 3, "cpu_capacity")) == 8


def test_only_usable_cores_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: (0, 1, 2))
    assert big_cores(system(tmp_path, PIXEL_6, "cpu_capacity")) == 3  # the little ones, which are alike
