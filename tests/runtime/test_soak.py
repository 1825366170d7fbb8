"""Resident memory does not grow with generations or with sessions, and growth would be seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import soak
import tolerances
from dareq_runtime.bench.memory import resident
from fast import slow
from text_models import text_export

ROOT = Path(__file__).parents[2]
PROGRAM = """
import runpy, sys
sys.path[:0] = sys.argv[1].split("|")
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
pytestmark = pytest.mark.skipif(
    resident() is None, reason="resident memory is read from /proc/self/status; run these tests on Linux"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_export(tmp_path_factory.mktemp("soak"))


def samples(folder: Path, kind: str, times: int) -> list[int]:
    """Resident bytes after each time, in a process of its own."""
    roots = "|".join(str(ROOT / name) for name in ("", "runtime", "tests"))
    command = [sys.executable, "-c", PROGRAM, roots, str(ROOT / "tests/soak.py"), str(folder), kind, str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout)
    assert len(found) == times
    assert min(found) > 0
    return found


@pytest.mark.parametrize(
    ("kind", "times"),
    [("generations", 200), slow(("generations", 10_000)), ("sessions", 30), slow(("sessions", 1000))],
)
def test_memory_does_not_grow(folder: Path, kind: str, times: int) -> None:
    assert soak.growth(samples(folder, kind, times)) <= tolerances.SOAK_GROWTH[kind]


@pytest.mark.parametrize(("kind", "times"), [("generations", 200), ("sessions", 30)])
def test_growth_would_be_seen(folder: Path, kind: str, times: int) -> None:
    assert soak.growth(samples(folder, f"kept_{kind}", times)) > tolerances.SOAK_GROWTH[kind]


def test_the_rule() -> None:
    assert soak.growth([9, 9, 9, 1, 5, 2, 7, 4, 6]) == 6 - 2
    assert soak.growth([0, 8, 8, 8, 8, 8]) == 0  # what fills up in the first third is no growth
    assert soak.growth(np.arange(3000)) == 1000  # one byte each time
