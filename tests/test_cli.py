"""The command line from end to end on a tiny random OPT; tests of bad input are in test_cli_errors.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dareq_edge.cli import main
from dareq_edge.manifest import Manifest
from tiny_models import tiny_opt

QUICK = ("--recipe", "dareq-reference")  # where the recipe does not matter


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a float model ``m``, token ids ``t.npy`` and what deploy, quantize and export make of them."""
    folder = tmp_path_factory.mktemp("cli")
    tiny_opt(folder / "m")
    np.save(folder / "t.npy", np.random.default_rng(0).integers(3, 96, 400))
    assert main(["quantize", str(folder / "m"), "--out", str(folder / "q"), *QUICK]) == 0
    assert main(["export", str(folder / "q"), "--out", str(folder / "o")]) == 0
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def record(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    code, out, _ = call(capsys, *arguments, "--json")
    assert code == 0
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_deploy(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "deployed"
    found = record(capsys, "deploy", place / "m", "--out", out, "--tokens", place / "t.npy")
    parity = found["parity"]
    assert isinstance(parity, dict)
    assert parity["passed"] is True
    labels = ["torch fp32", "torch dareq", "onnx fp32 compute", "onnx int8 compute"]
    assert [s["label"] for s in parity["scores"]] == labels
    assert json.loads((out / "parity.json").read_text()) == parity
    manifest = Manifest.read(out)
    manifest.verify(out)
    assert set(manifest.scores) == set(labels)
    assert sorted(p.name for p in out.iterdir() if p.is_dir()) == []
    weights = (out / "model.onnx").stat().st_size + (out / "model.onnx.data").stat().st_size
    assert isinstance(found["bytes"], dict)
    assert found["bytes"]["onnx_weights"] == weights
    assert found["bytes"]["source_weights"] == (place / "m" / "model.safetensors").stat().st_size


def test_the_parts_give_what_deploy_gives(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = place / "parts"
    assert call(capsys, "deploy", place / "m", "--out", out, "--no-eval", *QUICK)[0] == 0
    for name in ("model.onnx", "model.onnx.data", "config.json", "genai_config.json"):
        assert (out / name).read_bytes() == (place / "o" / name).read_bytes()


def test_quantize_takes_every_option(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--bits", 3, "--group-size", 32, "--recipe", "rtn", "--table-bits", 32, "--scale-dtype", "float32"]
    options += ["--skip", "*.fc2", "--position-bits", 4]
    found = record(capsys, "quantize", place / "m", "--out", place / "q3", *options)
    config = json.loads((place / "q3" / "config.json").read_text())["quantization_config"]
    assert {
        k: config[k] for k in ("bits", "group_size", "method", "table_bits", "position_bits", "scale_dtype", "skip")
    } == {
        "bits": 3,
        "group_size": 32,
        "method": "rtn",
        "table_bits": None,
        "position_bits": 4,
        "scale_dtype": "float32",
        "skip": ["*.fc2"],
    }
    assert not any("fc2" in name for name in config["plan"])
    assert found["out"] == str(place / "q3")


def test_positions_take_8_bits_unless_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = "model.decoder.embed_positions"
    entry = Manifest.read(place / "o").tensors[f"{table}.qweight"]
    assert (entry.bits, entry.shape, entry.bytes) == (8, (130, 64), 130 * 64)
    out = place / "float-positions"
    tokens = ("--tokens", place / "t.npy")
    found = record(capsys, "deploy", place / "m", "--out", out, *tokens, *QUICK, "--position-bits", 32)
    assert isinstance(found["parity"], dict)
    assert found["parity"]["passed"] is True
    entry = Manifest.read(out).tensors[f"{table}.weight"]
    assert (entry.bits, entry.shape, entry.bytes) == (32, (130, 64), 130 * 64 * 4)


def test_eval_of_every_kind_of_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = ("--tokens", place / "t.npy")
    labels = {
        ("m",): "torch fp32",
        ("q",): "torch dareq",
        ("o",): "onnx int8 compute",
        ("o", "--compute", "fp32"): "onnx fp32 compute",
    }
    for (folder, *more), label in labels.items():
        found = record(capsys, "eval", place / folder, *tokens, *more)
        assert found["label"] == label
        assert found["protocol"] == "gptq(window=128)"
        assert found["tokens"] == 3 * 127


def test_eval_windows_and_limits(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--protocol", "strided", "--window", "64", "--stride", "16", "--max-tokens", "200"]
    found = record(capsys, "eval", place / "o", "--tokens", place / "t.npy", *options)
    assert found["protocol"] == "strided(window=64, stride=16)"
    assert found["tokens"] == 199


def test_parity_of_the_whole_chain(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sources = ("--model", place / "m", "--checkpoint", place / "q")
    found = record(capsys, "parity", place / "o", "--tokens", place / "t.npy", *sources)
    assert found["passed"] is True
    assert isinstance(found["links"], list)
    assert len(found["links"]) == 4


def test_a_broken_link_exits_with_1_and_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_opt(place / "other", seed=1)
    assert main(["quantize", str(place / "other"), "--out", str(place / "other-q"), *QUICK]) == 0
    arguments = ("parity", place / "o", "--checkpoint", place / "other-q", "--tokens", place / "t.npy")
    code, out, err = call(capsys, *arguments)
    assert code == 1
    assert "torch dareq -> onnx fp32 compute broke" in err
    assert "FAILED" in out
    code, out, _ = call(capsys, *arguments, "--json")
    assert code == 1
    assert json.loads(out)["passed"] is False


def test_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = record(capsys, "run", place / "o", "--prompt-ids", "2,5,6", "-n", 5)
    code, out, _ = call(capsys, "run", place / "o", "--prompt-ids", "2 5 6", "-n", 5)
    assert code == 0
    assert [int(x) for x in out.split()] == found["ids"]


@pytest.mark.parametrize("threads", ["1", "measured"])
def test_threads(place: Path, capsys: pytest.CaptureFixture[str], threads: str) -> None:
    usual = record(capsys, "run", place / "o", "--prompt-ids", "2,5,6", "-n", 5)
    assert record(capsys, "run", place / "o", "--prompt-ids", "2,5,6", "-n", 5, "--threads", threads) == usual
    scored = record(capsys, "eval", place / "o", "--tokens", place / "t.npy", "--threads", threads)
    assert scored["tokens"] == 381
    reference = record(capsys, "eval", place / "m", "--tokens", place / "t.npy", "--threads", threads)
    assert reference["tokens"] == 381


def test_run_by_lookup_and_on_battery(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("run", place / "o", "--prompt-ids", "2,5,6,5,6", "-n", 20, "--compute", "fp32")
    usual = record(capsys, *arguments)
    assert record(capsys, *arguments, "--lookup", "--preset", "battery") == usual
    code, _, err = call(capsys, *arguments, "--lookup", "--temperature", "1")
    assert code == 1
    assert "lookup is greedy" in err


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", ""])
def test_bad_threads(capsys: pytest.CaptureFixture[str], threads: str) -> None:
    code, _, err = call(capsys, "run", "nowhere", "x", "--threads", threads)
    assert code == 2
    assert "is neither a number from 1 on nor 'measured'" in " ".join(err.replace("│", " ").split())


def test_inspect_graph(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = record(capsys, "inspect", place / "o", "--graph")["graph"]
    kinds = {o["name"]: (o["count"], o["per_layer"]) for o in found["operators"]}
    assert found["layers"] == 2
    assert kinds["com.microsoft::MatMulNBits"] == (9, 4)  # qkv, out, fc1, fc2; and the head
    assert kinds["com.microsoft::GroupQueryAttention"] == (2, 1)
    assert found["total"] == sum(count for count, _ in kinds.values()) == 2 * found["per_layer"] + found["outside"]
    assert found["per_layer"] <= 10  # the budget: with Relu, two sums and two norms
    code, out, _ = call(capsys, "inspect", place / "o", "--graph")
    assert code == 0
    assert f"{found['total']} operators per token: 2 layers of {found['per_layer']}" in out
    code, _, err = call(capsys, "inspect", place / "q", "--graph")
    assert code != 0
    assert "holds no ONNX graph" in err


def test_export_with_an_8_bit_cache_passes_parity(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(capsys, "export", place / "q", "--out", tmp_path / "o8", "--cache-bits", "8")
    arguments = ("parity", tmp_path / "o8", "--checkpoint", place / "q", "--tokens", place / "t.npy")
    found = record(capsys, *arguments)
    assert found["passed"]
    assert [link["tolerance"] for link in found["links"]] == ["fp32 compute, int8 cache", "int8 compute"]
    assert found["links"][0]["kl_mean"] > 1e-9  # the cache is rounded


def test_inspect(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("m", "q", "o"):
        found = record(capsys, "inspect", place / folder)
        sizes = {p.name: p.stat().st_size for p in (place / folder).iterdir()}
        assert found["files"] == sizes
        assert found["total_bytes"] == sum(sizes.values())
    code, out, _ = call(capsys, "inspect", place / "o", "--summary", "--verify")
    assert code == 0
    assert "per channel" in out
    assert f"{sum(p.stat().st_size for p in (place / 'o').iterdir()):,}" in out


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version")[:2] == (0, "dareq-edge 0.1.0\n")
    for command in ("deploy", "quantize", "export", "run", "eval", "parity", "compare", "bench", "inspect", "demo"):
        code, out, _ = call(capsys, command, "--help")
        assert code == 0
        assert "Examples:" in out
        assert f"dareq-edge {command} " in out or command == "demo"


@pytest.mark.slow
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (Path(__file__).parents[1] / "examples/models/opt-mini/model.safetensors").is_file():
        pytest.skip("the embedded model is not in this checkout")
    found = record(capsys, "demo", "--out", tmp_path / "demo", *QUICK)
    assert isinstance(found["parity"], dict)
    assert found["parity"]["passed"] is True
    assert found["sample"]
    record(capsys, "demo", "--out", tmp_path / "demo", *QUICK)  # a second run replaces the first
