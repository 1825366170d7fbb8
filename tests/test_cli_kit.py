"""bundle and verdict on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dareq_edge.cli import main
from kits import perturb, run_validate
from tiny_decoder import TinyDecoder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model ``m``, token ids ``t.npy``, its kit and a result."""
    root = tmp_path_factory.mktemp("cli-kit")
    TinyDecoder().write(root / "m")
    np.save(root / "t.npy", np.random.default_rng(0).integers(3, 96, 400))
    assert main(["bundle", str(root / "m"), "--out", str(root / "kit"), "--tokens", str(root / "t.npy")]) == 0
    assert run_validate(root / "kit", root).returncode == 0
    return root


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_bundle_says_what_it_wrote(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--tokens", place / "t.npy", "--max-tokens", 100, "--window", 20, "--threads", 1]
    code, out, _ = call(capsys, "bundle", place / "m", "--out", tmp_path / "k.zip", *options, "--json")
    assert code == 0
    record = json.loads(out)
    assert record["references"]["int8"]["protocol"] == "gptq(window=20)"
    assert record["references"]["fp32"]["tokens"] == 95
    assert record["bytes"] <= (tmp_path / "k.zip").stat().st_size
    code, out, _ = call(capsys, "bundle", place / "m", "--out", tmp_path / "k.zip", *options, "--overwrite")
    assert code == 0
    assert "k.zip: " in out
    assert "onnx int8 compute" in out
    assert "python k.zip" in out


def test_verdict_confirms(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "verdict", place / "result.json", "--kit", place / "kit")
    assert code == 0
    assert "verdict: passed" in out
    assert "the reference is the kit's" in out
    assert err == ""
    record = json.loads(call(capsys, "verdict", place / "result.json", "--json")[1])
    assert record["passed"] is True
    assert record["kit_proven"] is False
    assert record["device_says"]["int8"]["top1_agreement"] == 1


def test_a_failed_verdict_exits_with_1(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads((place / "result.json").read_text())
    data["computes"]["int8"]["nll"] = [x * 1.1 for x in data["computes"]["int8"]["nll"]]
    (tmp_path / "r.json").write_text(json.dumps(data))
    code, out, err = call(capsys, "verdict", tmp_path / "r.json", "--kit", place / "kit")
    assert code == 1
    assert "EXCEEDED" in out
    assert "it says passed True, its losses give False" in out
    assert "disagrees with its own losses" in err
    assert "error: int8 compute: perplexity differs by" in err
    code, out, _ = call(capsys, "verdict", tmp_path / "r.json", "--json")
    assert code == 1
    assert json.loads(out)["passed"] is False


def test_a_failing_device_fails_on_both_sides(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "bundle", place / "m", "--out", tmp_path / "kit", "--tokens", place / "t.npy")[0] == 0
    perturb(tmp_path / "kit", "fp32", 0.001)
    assert run_validate(tmp_path / "kit", tmp_path).returncode == 1
    code, _, err = call(capsys, "verdict", tmp_path / "result.json", "--kit", tmp_path / "kit")
    assert code == 1
    assert "compare the versions of onnxruntime" in err
    assert "disagrees" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verdict", "none.json"], "there is no none.json"),
        (["verdict", "result.json", "--kit", "none"], "there is no kit none"),
        (["verdict", "t.npy"], "cannot be read"),
        (["bundle", "none", "--out", "k", "--tokens", "t.npy"], "there is no folder none"),
        (["bundle", "m", "--out", "k", "--tokens", "none.npy"], "there is no token file"),
        (["bundle", "m", "--out", "k"], "no tokenizer"),
        (["bundle", "m", "--out", "kit", "--tokens", "t.npy"], "already exists"),
        (["bundle", "m", "--out", "k", "--tokens", "t.npy", "--window", "99"], "the model's context is 48"),
    ],
)
def test_mistakes_are_one_sentence(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(place)
    code, out, err = call(capsys, *arguments)
    assert code == 1
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert not (place / "k").exists()


@pytest.mark.parametrize("command", ["bundle", "verdict"])
def test_help_has_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert f"dareq-edge {command} " in out


def test_bundle_of_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "bundle", tmp_path / "none", "--out", tmp_path / "kit")
    assert code == 1
    assert "there is no folder" in err
    assert not (tmp_path / "kit").exists()
