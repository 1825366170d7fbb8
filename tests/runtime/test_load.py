from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import tolerances
from dareq_edge.errors import ArtifactError, SpecError
from dareq_edge.manifest import Manifest
from dareq_edge.session_settings import SessionSettings
from dareq_runtime import load
from tiny_decoder import Shape, TinyDecoder

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join(str(ROOT / p) for p in ("", "runtime", "tests"))


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def seal(folder: Path) -> None:
    Manifest(kind="onnx", source="x").with_files(folder).write(folder)


def python(*arguments: str) -> str:
    """Standard output of a fresh interpreter."""
    environment = os.environ | {"PYTHONPATH": PATHS}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refuse(folder: Path, words: str) -> None:
    with pytest.raises(ArtifactError, match=words) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_not_a_folder_of_ours(tmp_path: Path) -> None:
    refuse(tmp_path / "none", "there is no folder")
    refuse(tmp_path, "no dareq.json")
    Manifest(kind="checkpoint", source="x").write(tmp_path)
    refuse(tmp_path, "holds a checkpoint.*run dareq-edge export")


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "config.json"])
def test_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    refuse(copy, f"{name} is missing")
    seal(copy)
    refuse(copy, "is missing from|which the folder does not hold")


def test_changed_files(copy: Path) -> None:
    data = copy / "model.onnx.data"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    refuse(copy, "does not match its sha256")
    assert load(copy, verify=False).vocab_size == 96
    data.write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match="bytes, expected"):
        load(copy, verify=False)


def test_corrupt_graph(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"not a graph")
    seal(copy)
    refuse(copy, r"model.onnx is no ONNX graph")


def test_external_data_may_not_lie_outside(copy: Path) -> None:
    model = onnx.load(copy / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../outside.data"
    (copy / "model.onnx.data").rename(copy.parent / "outside.data")
    onnx.save(model, copy / "model.onnx")
    seal(copy)
    refuse(copy, "wants .* bytes at .* of '../outside.data', which the folder does not hold")


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_bad_config(copy: Path, content: str) -> None:
    (copy / "config.json").write_text(content)
    seal(copy)
    refuse(copy, "config.json")


def test_bad_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{}")
    seal(copy)
    model = load(copy)  # ids need no tokenizer
    with pytest.raises(ArtifactError, match=r"tokenizer in .* cannot be read"):
        model.encode("text")


def test_a_graph_that_is_not_a_decoder(copy: Path) -> None:
    x = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "s"])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "s"])
    cast = helper.make_node("Cast", ["input_ids"], ["logits"], to=TensorProto.FLOAT)
    graph = helper.make_graph([cast], "g", [x], [y])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), copy / "model.onnx"
    )
    seal(copy)
    refuse(copy, "has no 'attention_mask'")


def test_bad_options(tiny_folder: Path) -> None:
    with pytest.raises(SpecError, match="use int8 or fp32"):
        load(tiny_folder, compute="int4")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="threads"):
        load(tiny_folder, threads=0)
    with pytest.raises(SpecError, match="chunk"):
        load(tiny_folder, chunk=0)


def test_generation_config_wins(copy: Path) -> None:
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7]}))
    seal(copy)
    assert load(copy).folder.stop_ids == {5, 7}


def test_works_with_torch_transformers_and_onnx_blocked(tiny_folder: Path) -> None:
    program = """
import sys
for name in ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "safetensors", "datasets"):
    sys.modules[name] = None
import dareq_runtime, numpy as np
from pathlib import Path
for path in Path(dareq_runtime.__file__).parent.rglob("*.py"):
    parts = path.relative_to(Path(dareq_runtime.__file__).parents[1]).with_suffix("").parts
    __import__(".".join(p for p in parts if p != "__init__"))
model = dareq_runtime.load(sys.argv[1])
tokens = dareq_runtime.TokenSet((np.arange(4, 84),), "x")
print(model.generate([5, 6], max_new_tokens=3).ids, model.score(tokens).tokens)
"""
    assert python("-c", program, str(tiny_folder)).strip().endswith("47")


def test_importing_does_nothing() -> None:
    program = "import sys, dareq_runtime; print(sorted({'numpy', 'onnxruntime', 'tokenizers'} & set(sys.modules)))"
    assert python("-c", program).strip() == "[]"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's VmHWM")
def test_scoring_a_125m_shape_stays_under_the_bar(tmp_path: Path) -> None:
    shape = Shape(vocab=50272, hidden=768, heads=12, kv_heads=12, ffn=3072, layers=12, context=2048)
    TinyDecoder(shape).write(tmp_path / "big")
    bench = ROOT / "examples/benchmarks/bench_scoring_memory.py"
    output = python(str(bench), str(tmp_path / "big"), "--windows", "1")
    peak = max(float(line.split("peak")[1].split()[0]) for line in output.splitlines() if "peak" in line)
    assert 100 < peak < tolerances.SCORING_RSS_MB


def test_the_folder_says_where_its_graph_is_and_how_to_open_it(copy: Path) -> None:
    (copy / "onnx").mkdir()
    (copy / "model.onnx").rename(copy / "onnx/model_q4.onnx")
    (copy / "model.onnx.data").rename(copy / "onnx/model.onnx.data")
    sessions = {"int8": SessionSettings("ORT_DISABLE_ALL", {"session.intra_op.allow_spinning": "0"})}
    Manifest("onnx", "x", graph="onnx/model_q4.onnx", sessions=sessions).with_files(copy).write(copy)
    options = load(copy).graph.session.get_session_options()
    assert options.graph_optimization_level == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_graph_outside_of_the_folder_is_not_opened(copy: Path) -> None:
    Manifest("onnx", "x", graph="../model.onnx").with_files(copy).write(copy)
    refuse(copy, "leads out of the folder")
