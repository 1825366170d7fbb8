"""The portable and web profiles through the command line: deploy, then every command that takes a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dareq_edge.cli import main
from dareq_edge.manifest import Manifest
from fast import fast
from tiny_models import tiny_opt

QUICK = ("--recipe", "dareq-reference")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float model ``m``, its quantized checkpoint ``q``, token ids ``t.npy`` and the native export ``native``."""
    folder = tmp_path_factory.mktemp("profiles")
    tiny_opt(folder / "m")
    np.save(folder / "t.npy", np.random.default_rng(0).integers(3, 96, 400))
    assert main(["quantize", str(folder / "m"), "--out", str(folder / "q"), "--table-bits", "8", *QUICK]) == 0
    assert main(["export", str(folder / "q"), "--out", str(folder / "native")]) == 0
    return folder


def record(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capsys.readouterr()
    assert main([str(a) for a in (*arguments, "--json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module", params=fast(["portable", "web"], "web"))
def folder(request: pytest.FixtureRequest, place: Path) -> Path:
    out = place / str(request.param)
    code = main(["export", str(place / "q"), "--out", str(out), "--profile", str(request.param)])
    assert code == 0
    return out


def test_run_and_eval_give_what_the_native_folder_gives(
    place: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exact = ("--compute", "fp32", "--json")
    outputs = []
    for which in (place / "native", folder):
        capsys.readouterr()
        assert main(["run", str(which), "--prompt-ids", "2,5,6", "-n", "12", *exact]) == 0
        assert main(["eval", str(which), "--tokens", str(place / "t.npy"), *exact]) == 0
        ran, scored = capsys.readouterr().out.split("}\n{")
        outputs.append((json.loads(ran + "}")["ids"], json.loads("{" + scored)["nll"]))
    assert outputs[0][0] == outputs[1][0]
    assert outputs[1][1] == pytest.approx(outputs[0][1], rel=1e-5)


def test_parity_holds(place: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = ("--model", place / "m", "--checkpoint", place / "q")
    found = record(capsys, "parity", folder, "--tokens", place / "t.npy", *sources)
    assert found["passed"] is True


def test_inspect_counts_the_operators_of_the_standard(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = record(capsys, "inspect", folder, "--graph", "--verify")
    assert found["profile"] == folder.name
    assert isinstance(found["graph"], dict)
    counts = {o["name"]: o["count"] for o in found["graph"]["operators"]}
    assert counts["DequantizeLinear"] == counts["MatMul"] == 9
    assert counts["com.microsoft::GroupQueryAttention"] == found["graph"]["layers"] == 2
    assert "com.microsoft::MatMulNBits" not in counts


def test_bench_measures_it_against_the_native_folder(
    place: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = ("--prompts", "4", "--contexts", "4", "--new-tokens", "2", "--rounds", "1", "--threads", "1")
    found = record(capsys, "bench", folder, "--against", place / "native", *lengths)
    assert len(found["contestants"]) == 2  # type: ignore[arg-type]


def test_deploy_puts_a_web_folder_in_its_place(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "deployed"
    found = record(
        capsys, "deploy", place / "m", "--out", out, "--profile", "web", "--tokens", place / "t.npy", *QUICK
    )
    manifest = Manifest.read(out)
    manifest.verify(out)
    assert isinstance(found["parity"], dict)
    assert found["parity"]["passed"] is True
    weights = sum(p.stat().st_size for p in (out / "onnx").iterdir())
    assert isinstance(found["bytes"], dict)
    assert found["bytes"]["onnx_weights"] == weights
    assert set(manifest.scores) == {"torch fp32", "torch dareq", "onnx fp32 compute", "onnx int8 compute"}
