"""pack and unpack through the command line, and every command that takes a folder on a packed one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dareq_edge.cli import main
from dareq_edge.manifest import Manifest
from fast import fast
from packed_folders import content
from tiny_models import tiny_opt

MINI = Path(__file__).parents[1] / "examples/models/opt-mini"
QUICK = ("--recipe", "dareq-reference")


def record(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    capsys.readouterr()
    assert main([str(a) for a in (*arguments, "--json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(a) for a in arguments]) != 0
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture(scope="module", params=fast([4, 8], 4), ids=["4 bits", "8 bits"])
def mini(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """opt-mini exported as ``plain`` and packed as ``packed``, all through the command line."""
    place = tmp_path_factory.mktemp("mini")
    bits = ("--bits", str(request.param), "--recipe", "rtn")
    assert main(["quantize", str(MINI), "--out", str(place / "q"), *bits]) == 0
    assert main(["export", str(place / "q"), "--out", str(place / "plain")]) == 0
    assert main(["pack", str(place / "plain"), "--out", str(place / "packed")]) == 0
    return place


def test_tokens_and_losses_of_the_embedded_model_are_equal(mini: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = [mini / "plain", mini / "packed"]
    ran = [record(capsys, "run", folder, "The people of the United States", "-n", 40) for folder in both]
    assert ran[0] == ran[1]
    assert len(set(ran[0]["ids"])) > 5  # type: ignore[arg-type]
    scored = [record(capsys, "eval", folder, "--max-tokens", 1024, "--threads", 1) for folder in both]
    assert scored[0]["nll"] == scored[1]["nll"]
    assert 1 < float(scored[0]["ppl"]) < 200  # type: ignore[arg-type]


def test_pack_and_unpack_say_what_they_did(mini: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = record(capsys, "pack", mini / "plain", "--out", tmp_path / "p", "--threads", 1)
    assert packed["bytes"] == {
        "before": sum(len(data) for data in content(mini / "plain").values()),
        "after": sum(len(data) for data in content(tmp_path / "p").values()),
    }
    assert packed["bytes"]["after"] < packed["bytes"]["before"]  # type: ignore[index]
    kinds = {k["kind"]: k for k in packed["kinds"]}  # type: ignore[attr-defined]
    assert 0 < kinds["8-bit codes"]["bits_per_weight"] < 8
    assert content(tmp_path / "p") == content(mini / "packed")
    record(capsys, "unpack", tmp_path / "p", "--out", tmp_path / "u")
    assert content(tmp_path / "u") == content(mini / "plain")
    assert main(["pack", str(mini / "plain"), "--out", str(tmp_path / "shown")]) == 0
    shown = capsys.readouterr().out
    assert "bits per weight" in shown
    assert "smaller" in shown


def test_no_file_is_written_while_a_packed_folder_runs(mini: Path, tmp_path: Path) -> None:
    """strace would tell more, but is not everywhere: every open for writing goes through an audit hook."""
    program = """
import sys
written = []
def hook(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & 3:
        written.append(args[0])
sys.addaudithook(hook)
import dareq_runtime
model = dareq_runtime.load(sys.argv[1])
model.generate([2, 5], max_new_tokens=2)
print(written)
"""
    command = [sys.executable, "-B", "-c", program, str(mini / "packed")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=_paths())
    assert done.stdout.strip() == "[]"


def _paths() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny OPT: model ``m``, tokens ``t.npy``, checkpoint ``q``, and what deploy --pack leaves as ``d``."""
    place = tmp_path_factory.mktemp("tiny")
    tiny_opt(place / "m")
    np.save(place / "t.npy", np.random.default_rng(0).integers(3, 96, 400))
    tokens = ("--tokens", str(place / "t.npy"))
    assert main(["quantize", str(place / "m"), "--out", str(place / "q"), *QUICK]) == 0
    assert main(["pack", str(place / "q"), "--out", str(place / "qp")]) == 0
    assert main(["deploy", str(place / "m"), "--out", str(place / "d"), "--pack", *tokens, *QUICK]) == 0
    assert main(["unpack", str(place / "d"), "--out", str(place / "plain")]) == 0
    return place


def test_deploy_packs_what_passed_parity(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest.read(tiny / "d")
    manifest.verify(tiny / "d")
    assert "model.onnx.data" in manifest.packed
    assert set(manifest.scores) == set(Manifest.read(tiny / "plain").scores) != set()
    assert (tiny / "d/parity.json").is_file()
    found = record(capsys, "deploy", tiny / "m", "--out", tiny / "d2", "--pack", "--no-eval", *QUICK)
    sizes = found["bytes"]
    assert isinstance(sizes, dict)
    assert sizes["packed_folder"] == sum(f.bytes for f in Manifest.read(tiny / "d2").files.values())


def test_inspect_and_parity_take_it(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspected = [record(capsys, "inspect", tiny / name, "--verify", "--graph") for name in ("plain", "d")]
    assert inspected[0]["tensors"] == inspected[1]["tensors"]
    assert inspected[0]["graph"] == inspected[1]["graph"]
    chosen = ("--tokens", tiny / "t.npy", "--checkpoint", tiny / "q")
    reports = [record(capsys, "parity", tiny / name, *chosen) for name in ("plain", "d")]
    assert [r["passed"] for r in reports] == [True, True]
    assert reports[0]["links"] == reports[1]["links"]


def test_bench_takes_it_and_counts_the_container(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lengths = ("--rounds", 1, "--prompts", 4, "--contexts", 4, "--new-tokens", 1)
    found = record(capsys, "bench", tiny / "d", *lengths)
    sizes = [(tiny / "d" / name).stat().st_size for name in ("model.onnx", "model.onnx.data.dqz")]
    contestants = found["contestants"]
    assert isinstance(contestants, list)
    assert contestants[0]["file_bytes"] == sum(sizes)


def test_a_kit_holds_the_unpacked_model(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(capsys, "bundle", tiny / "d", "--out", tmp_path / "kit", "--tokens", tiny / "t.npy")
    assert content(tmp_path / "kit/model") == content(tiny / "plain")
    assert {p.name for p in (tmp_path / "kit").iterdir()} == {
        "kit.json", "kit.sha256", "model", "reference", "tokens.npy", "validate.py",
    }  # fmt: skip


@pytest.mark.parametrize("command", ["layout", "mobile"])
def test_what_needs_the_files_says_to_unpack(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = refusal(capsys, command, tiny / "d", "--out", tmp_path / "out")
    assert f"d is packed; unpack it first: dareq-edge unpack {tiny / 'd'}" in said
    assert not (tmp_path / "out").exists()


def test_packed_checkpoints_are_not_read(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ("export", tiny / "qp", "--out", tmp_path / "out"),
        ("quantize", tiny / "qp", "--out", tmp_path / "out"),
        ("eval", tiny / "qp", "--tokens", tiny / "t.npy"),
        ("parity", tiny / "d", "--checkpoint", tiny / "qp", "--tokens", tiny / "t.npy"),
    ):
        assert "qp is packed; unpack it first" in refusal(capsys, *arguments)


def test_the_wrong_way_round(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is packed already" in refusal(capsys, "pack", tiny / "d", "--out", tmp_path / "out")
    assert "is not packed; use it as it is" in refusal(capsys, "unpack", tiny / "plain", "--out", tmp_path / "out")
    assert "no dareq.json" in refusal(capsys, "pack", tiny / "m", "--out", tmp_path / "out")
    assert main(["mobile", str(tiny / "plain"), "--out", str(tmp_path / "ort")]) == 0
    assert "is in ORT format" in refusal(capsys, "pack", tmp_path / "ort", "--out", tmp_path / "out")
