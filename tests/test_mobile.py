"""dareq-edge mobile, from end to end: the file's numbers, its operators, its manifest, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dareq_runtime
from dareq_edge.cli import main, mobile
from dareq_edge.errors import ExportError
from dareq_edge.hf import DareqConfig
from dareq_edge.manifest import Manifest
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from dareq_runtime import ort_format
from fast import fast
from tiny_models import rotary_configs, save_random, tiny_opt

PROMPT = [2, 17, 40, 8, 33]
OPERATORS = {
    "opt": """\
ai.onnx;13;Concat,Expand,Gather,Neg,Slice
ai.onnx;14;Add,Mul,Relu,Sub
ai.onnx;17;LayerNormalization
ai.onnx;21;Cast,Reshape,Shape,Squeeze,Unsqueeze
com.microsoft;1;GatherBlockQuantized,GroupQueryAttention,MatMulNBits
""",
    "llama": """\
ai.onnx;11;Range
ai.onnx;13;Concat,Expand,MatMul,Neg,Sigmoid,Slice
ai.onnx;14;Add,Mul,Sub
ai.onnx;18;ReduceProd,Split
ai.onnx;22;Cos,Sin
ai.onnx;23;Cast,RMSNormalization,Reshape,Shape,Squeeze,Transpose,Unsqueeze
com.microsoft;1;GatherBlockQuantized,GroupQueryAttention,MatMulNBits,RotaryEmbedding
""",
}

PARSE = """
import json, sys
sys.modules["torch"] = None
from onnxruntime.tools.reduced_build_config_parser import parse_config
operators, types = parse_config(sys.argv[1], bool(sys.argv[2]))
listed = {domain: {opset: sorted(names) for opset, names in found.items()} for domain, found in operators.items()}
print(json.dumps({"operators": listed, "reduces types": types is not None}))
"""


@pytest.fixture(scope="module", params=fast(["opt", "llama", "opt-int8-cache"], "llama", "opt-int8-cache"))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """(kind, exported folder, what mobile made of it): an OPT with one table, a Llama with two."""
    kind: str = request.param
    root = tmp_path_factory.mktemp(kind)
    if kind == "llama":
        save_random(rotary_configs()["llama3"], root / "m")
    else:
        tiny_opt(root / "m", vocab_size=2048, eos_token_id=95)
    quantize_checkpoint(root / "m", root / "q", DareqConfig(table_bits=8, method="rtn"))
    ranges = dareq_runtime.cache_ranges if kind == "opt-int8-cache" else None
    export_onnx(root / "q", root / "o", cache_ranges=ranges)
    assert main(["mobile", str(root / "o"), "--out", str(root / "a")]) == 0
    return kind, root / "o", root / "a"


@pytest.mark.parametrize("compute", ["int8", "fp32"])
def test_the_same_logits_and_tokens(case: tuple[str, Path, Path], compute: str) -> None:
    _, before, after = case
    old, new = (dareq_runtime.load(f, compute=compute, threads=1) for f in (before, after))  # type: ignore[arg-type]
    ids = np.random.default_rng(1).integers(3, 96, 40)
    np.testing.assert_array_equal(new.logits(ids), old.logits(ids))
    greedy = [m.generate(PROMPT, max_new_tokens=40, stop_ids=[]).ids for m in (old, new)]
    assert greedy[0] == greedy[1]
    assert len(set(greedy[0])) > 5  # not one token over and over


def test_the_operators_are_the_graphs_own(case: tuple[str, Path, Path]) -> None:
    kind, before, after = case
    text = (after / "required_operators.config").read_text()
    assert text == "# Generated from model/s:\n# - model.ort\n" + OPERATORS[kind.removesuffix("-int8-cache")]
    from dareq_export.operators import summarize

    listed = set()
    for line in text.splitlines()[2:]:
        domain, opset, names = line.split(";")
        assert opset.isdecimal()
        listed |= {n if domain == "ai.onnx" else f"{domain}::{n}" for n in names.split(",")}
    views = {"Reshape"} if kind != "llama" else set()  # how the lookup reads the head's table
    assert listed == {o.name for o in summarize(before).operators} | views


def test_types_are_listed_too(case: tuple[str, Path, Path]) -> None:
    _, _, after = case
    lines = (after / "required_operators_and_types.config").read_text().splitlines()
    bare = (after / "required_operators.config").read_text().splitlines()
    assert [line.split(";")[:2] for line in lines[2:]] == [line.split(";")[:2] for line in bare[2:]]
    assert 'Slice{"inputs": {"0": ["float"], "1": ["int64_t"]}}' in "".join(lines)
    assert all(str(after.parent) not in line for line in lines)


def test_onnxruntimes_own_build_reads_the_lists(case: tuple[str, Path, Path]) -> None:
    _, _, after = case
    found = []
    for name, types in zip(mobile.OPERATOR_FILES, ("", "1"), strict=True):
        done = subprocess.run([sys.executable, "-c", PARSE, after / name, types], capture_output=True, check=True)
        found.append(json.loads(done.stdout))
    assert found[0]["operators"] == found[1]["operators"]
    assert [f["reduces types"] for f in found] == [False, True]
    assert "MatMulNBits" in found[0]["operators"]["com.microsoft"]["1"]


def test_the_table_is_there_once(case: tuple[str, Path, Path]) -> None:
    kind, before, after = case
    manifest = Manifest.read(before)
    once = sum(t.bytes for t in manifest.tensors.values() if t.shares is None)
    shared = sum(t.bytes for t in manifest.tensors.values() if t.shares is not None)
    assert (shared > 0) == (kind != "llama")
    graph = (before / "model.onnx").stat().st_size
    assert once < (after / "model.ort").stat().st_size < once + 4 * graph
    assert kind == "llama" or shared > 4 * graph  # otherwise the line above could not fail


def test_the_manifest_describes_the_new_folder(case: tuple[str, Path, Path]) -> None:
    _, before, after = case
    old, new = Manifest.read(before), Manifest.read(after)
    new.verify(after)
    assert (new.graph, new.source, new.scores) == ("model.ort", old.source, old.scores)
    assert {p.name for p in after.iterdir()} == {*new.files, "dareq.json"}
    gone = {"model.onnx", "model.onnx.data"}
    assert new.files.keys() == old.files.keys() - gone | {"model.ort", *mobile.OPERATOR_FILES}
    assert {(t.file, t.offset) for t in new.tensors.values()} == {("model.ort", None)}
    for compute in ("int8", "fp32"):
        assert new.sessions[compute].entries == {**old.sessions[compute].entries, **ort_format.MAPPED}
    decoder = json.loads((after / "genai_config.json").read_text())["model"]["decoder"]
    assert decoder["filename"] == "model.ort"
    assert ort_format.MAPPED.items() <= decoder["session_options"].items()


def test_genai_opens_it(case: tuple[str, Path, Path]) -> None:
    kind, before, after = case
    if kind == "opt-int8-cache":
        pytest.skip("onnxruntime-genai does not know our 8-bit cache; export without --cache-bits 8")
    genai = pytest.importorskip("onnxruntime_genai", reason="install onnxruntime-genai, e.g. with the [dev] extra")
    found = []
    for folder in (before, after):
        model = genai.Model(str(folder))
        settings = genai.GeneratorParams(model)
        settings.set_search_options(max_length=24, do_sample=False)
        generator = genai.Generator(model, settings)
        generator.append_tokens(np.array([PROMPT], dtype=np.int32))
        for _ in range(12):
            generator.generate_next_token()
        found.append(generator.get_sequence(0).tolist())
    assert found[0] == found[1]


def refused(capsys: pytest.CaptureFixture[str], folder: Path, out: Path, words: str) -> None:
    capsys.readouterr()
    assert main(["mobile", str(folder), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert words in " ".join(error.split())
    assert "Traceback" not in error


def test_what_cannot_be_converted(
    case: tuple[str, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before, after = case
    out = tmp_path / "out"
    refused(capsys, before, after, "already exists; choose another --out or pass --overwrite")
    refused(capsys, tmp_path, out, "no dareq.json")
    refused(capsys, before.parent / "q", out, "holds a checkpoint")
    refused(capsys, after, out, "is in ORT format already")
    assert main(["inspect", str(after)]) == 0
    assert main(["inspect", str(after), "--graph"]) == 1
    assert "required_operators.config beside it" in " ".join(capsys.readouterr().err.split())
    copy = tmp_path / "copy"
    shutil.copytree(before, copy)
    replace(Manifest.read(before), profile="portable").write(copy)
    refused(capsys, copy, out, "export it again with --profile native")
    replace(Manifest.read(before)).write(copy)
    data = bytearray((copy / "model.onnx.data").read_bytes())
    data[1000] ^= 1
    (copy / "model.onnx.data").write_bytes(data)
    refused(capsys, copy, out, "does not match its sha256")
    monkeypatch.setattr(ort_format, "LARGEST", 50_000)
    refused(capsys, before, out, "holds at most")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy"]


def test_a_file_that_computes_something_else_is_not_kept(
    case: tuple[str, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before, _ = case
    monkeypatch.setattr(mobile, "TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="differs from the exported one by 0"):
        mobile.package(before, tmp_path / "out")
    assert not list(tmp_path.iterdir())
