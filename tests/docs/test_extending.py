"""The worked examples of docs/extending.md, taken out of the page, pass the contract tests that they name."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from dareq_export import profiles
from dareq_export.profiles import PROFILES, find_profile
from dareq_runtime import load, presets
from pages import DOCS, ROOT, files
from tiny_decoder import TinyDecoder

PAGE = DOCS / "extending.md"
CONTRACTS = {
    "dareq_edge/quantizers/power_of_two.py": "tests/core/test_quantizer_contract.py",
    "dareq_edge/allocation/rules/taper.py": "tests/allocation/test_rules.py",
    "runtime/dareq_runtime/protocols/second_half.py": "tests/runtime/test_windows.py",
}
ROWS = {"export/dareq_export/profiles.py", "runtime/dareq_runtime/presets.py"}


def module_of(file: str) -> str:
    """Dotted name of a file of ours."""
    parts = PurePosixPath(file).with_suffix("").parts
    return ".".join(parts[1:] if parts[0] in ("export", "runtime") else parts)


def test_every_example_of_the_page_is_tried_here() -> None:
    assert set(files(PAGE)) == {*CONTRACTS, *ROWS}
    text = PAGE.read_text(encoding="utf-8")
    for contract in CONTRACTS.values():
        assert f"pytest {contract}" in text
        assert (ROOT / contract).is_file()


def test_plug_ins_of_the_page_pass_the_contract_tests(tmp_path: Path) -> None:
    """In a fresh pytest that finds them where a contributor would put them."""
    places = {}
    for file, content in files(PAGE).items():
        if file in CONTRACTS:
            package, _, name = module_of(file).rpartition(".")
            places[package] = str(tmp_path / package)
            (tmp_path / package).mkdir()
            (tmp_path / package / f"{name}.py").write_text(content, encoding="utf-8")
    names = [module_of(file).rpartition(".")[2] for file in CONTRACTS]
    roots = [str(ROOT / part) for part in ("", "export", "runtime", "tests")]
    environment = os.environ | {
        "DAREQ_PLUGIN_FOLDERS": json.dumps(places),
        "PYTHONPATH": os.pathsep.join(roots),
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-p",
        "plugin_folders",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
    ]
    command += ["--color=no", "-k", " or ".join(names), *CONTRACTS.values()]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    for name, contract in zip(names, CONTRACTS.values(), strict=True):
        passed = re.findall(rf"^{re.escape(contract)}::\w+\[.*{name}.*\] PASSED", done.stdout, re.MULTILINE)
        assert len(passed) >= 3, f"{name} met {len(passed)} contract tests"


def test_the_profile_of_the_page_is_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "PROFILES", dict(PROFILES))
    exec(files(PAGE)["export/dareq_export/profiles.py"], vars(profiles))
    made = find_profile("accelerator")
    assert made.from_root(made.data_file(1)) == "npu/weights.bin_1"
    for name, profile in profiles.PROFILES.items():  # what every row promises
        assert profile.name == name
        assert {"int8", "fp32"} <= set(profile.sessions)
        for path in (profile.graph, profile.from_root(profile.data)):
            assert not PurePosixPath(path).is_absolute()
            assert ".." not in PurePosixPath(path).parts


@pytest.mark.slow
def test_the_profile_of_the_page_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dareq_edge.hf import DareqConfig
    from dareq_edge.quantize import quantize_checkpoint
    from dareq_export import export_onnx
    from tiny_models import tiny_opt

    monkeypatch.setattr(profiles, "PROFILES", dict(PROFILES))
    exec(files(PAGE)["export/dareq_export/profiles.py"], vars(profiles))
    quantize_checkpoint(
        tiny_opt(tmp_path / "source"), tmp_path / "quantized", DareqConfig(table_bits=8, method="rtn")
    )
    made = []
    for name in ("native", "accelerator"):
        export_onnx(tmp_path / "quantized", tmp_path / name, profile=name)  # type: ignore[arg-type]
        model = load(tmp_path / name, compute="fp32", threads=1)
        made.append(model.generate([2, 17, 40], max_new_tokens=12, stop_ids=[]).ids)
    assert made[0] == made[1]
    assert (tmp_path / "accelerator/npu/weights.bin").is_file()


def test_the_preset_of_the_page_changes_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = TinyDecoder().write(tmp_path / "tiny")
    wanted = load(folder, threads=1).generate(np.arange(4, 20), max_new_tokens=20)
    monkeypatch.setattr(presets, "PRESETS", dict(presets.PRESETS))
    exec(files(PAGE)["runtime/dareq_runtime/presets.py"], vars(presets))
    found = load(folder, threads=1, preset="background")  # type: ignore[arg-type]
    assert found.generate(np.arange(4, 20), max_new_tokens=20) == wanted
