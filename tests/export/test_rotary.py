"""Rotary embeddings become RotaryEmbedding, in every form transformers has, and nothing else does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import tolerances
from dareq_edge.hf import DareqConfig
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from dareq_export.passes import RotaryPass
from exported import distance_from_transformers
from fast import fast
from tiny_models import rotary_configs, save_random

FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
HEADS, HEAD = 2, 16

# (norms fused, rotary embeddings fused); two layers, each of query and key
EXPECTED = {
    "llama3": (5, 4),
    "yarn": (5, 4),
    "mistral": (5, 4),
    "qwen2": (5, 4),
    "qwen3": (9, 4),  # and a norm of each query and key head
    "smollm3": (5, 2),  # no rotation in the second layer
    "phi": (0, 4),  # LayerNorm, half of a head rotated
    "neox": (0, 4),
    "gemma": (5, 4),  # scales are 1 + weight
    "gemma3": (13, 4),  # two kinds of angles
}


@pytest.mark.parametrize("kind", fast(EXPECTED, "llama3", "qwen3"))  # gemma3: test_export.py
def test_every_form_is_fused_and_equals_transformers(tmp_path: Path, kind: str) -> None:
    save_random(rotary_configs()[kind], tmp_path / "source")
    quantize_checkpoint(tmp_path / "source", tmp_path / "quantized", DareqConfig(method="rtn"))
    export_onnx(tmp_path / "quantized", tmp_path / "out")
    graph = onnx.load(tmp_path / "out/model.onnx", load_external_data=False).graph
    counts = Counter(node.op_type for node in graph.node)
    assert (counts["RMSNormalization"], counts["RotaryEmbedding"]) == EXPECTED[kind]
    assert (counts["Neg"], counts["ReduceMean"]) == (1, 0)  # the number of positions to keep is negated
    assert distance_from_transformers(tmp_path / "out", tmp_path / "quantized") <= tolerances.EXPORT_FP32


def rotated(x: str, cos: str, sin: str, width: int, *, swap: bool = False) -> list[onnx.NodeProto]:
    """Nodes for x * cos + rotate_half(x) * sin → ``x``_out; ``swap`` mixes the halves up."""
    half = width // 2
    nodes = [
        helper.make_node("Slice", [x, "zero", f"n{half}", "three", "one"], [f"{x}_low"]),
        helper.make_node("Slice", [x, f"n{half}", "end", "three", "one"], [f"{x}_high"]),
        helper.make_node("Neg", [f"{x}_low" if swap else f"{x}_high"], [f"{x}_neg"]),
        helper.make_node("Concat", [f"{x}_neg", f"{x}_high" if swap else f"{x}_low"], [f"{x}_half"], axis=-1),
        helper.make_node("Mul", [cos, x], [f"{x}_cos"]),
        helper.make_node("Mul", [f"{x}_half", sin], [f"{x}_sin"]),
        helper.make_node("Add", [f"{x}_sin", f"{x}_cos"], [f"{x}_out"]),
    ]
    return nodes


def attention_model(*, swap: bool = False, sin_of: str = "angles", doubled: str = "angles") -> onnx.ModelProto:
    """One GroupQueryAttention whose query and key are rotated; the arguments break the pattern in one place."""
    nodes = [
        helper.make_node("Concat", ["angles", doubled], ["both"], axis=-1),
        helper.make_node("Concat", [sin_of, sin_of], ["both_sin"], axis=-1),
        helper.make_node("Cos", ["both"], ["cos3"]),
        helper.make_node("Sin", ["both_sin"], ["sin3"]),
        helper.make_node("Unsqueeze", ["cos3", "one"], ["cos"]),
        helper.make_node("Unsqueeze", ["sin3", "one"], ["sin"]),
    ]
    for name in ("q", "k"):
        nodes += [
            helper.make_node("Reshape", [name, "split"], [f"{name}4"]),
            helper.make_node("Transpose", [f"{name}4"], [f"{name}h"], perm=[0, 2, 1, 3]),
            *rotated(f"{name}h", "cos", "sin", HEAD, swap=swap),
            helper.make_node("Transpose", [f"{name}h_out"], [f"{name}t"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"{name}t", "join"], [f"{name}r"]),
        ]
    nodes.append(
        helper.make_node(
            "GroupQueryAttention", ["qr", "kr", "v", "pk", "pv", "last", "total"], ["out", "key", "value"],
            domain="com.microsoft", num_heads=HEADS, kv_num_heads=HEADS,
        )
    )  # fmt: skip
    tensor = helper.make_tensor_value_info
    width = HEADS * HEAD
    inputs = [tensor(n, FLOAT, ["b", "s", width]) for n in ("q", "k", "v")]
    inputs += [tensor(n, FLOAT, ["b", HEADS, "p", HEAD]) for n in ("pk", "pv")]
    inputs += [tensor(n, FLOAT, ["b", "s", HEAD // 2]) for n in ("angles", "other")]
    inputs += [tensor("last", INT32, ["b"]), tensor("total", INT32, [])]
    constants = {"zero": [0], "one": [1], "three": [3], f"n{HEAD // 2}": [HEAD // 2], "end": [2**63 - 1]}
    constants |= {"split": [0, 0, HEADS, HEAD], "join": [0, 0, width]}
    tensors = [helper.make_tensor(n, INT64, [len(v)], v) for n, v in constants.items()]
    outputs = [tensor("out", FLOAT, ["b", "s", width]), tensor("key", FLOAT, ["b", HEADS, "t", HEAD])]
    outputs += [tensor("value", FLOAT, ["b", HEADS, "t", HEAD])]
    shapes = [tensor(f"{n}h{x}", FLOAT, ["b", HEADS, "s", HEAD]) for n in "qk" for x in ("", "_out")]
    shapes += [tensor(f"{n}r", FLOAT, ["b", "s", width]) for n in "qk"]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors, value_info=shapes)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def outputs(model: onnx.ModelProto) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    batch, length = 2, 5
    feeds = {n: rng.standard_normal((batch, length, HEADS * HEAD)).astype(np.float32) for n in ("q", "k", "v")}
    feeds |= {n: rng.standard_normal((batch, length, HEAD // 2)).astype(np.float32) for n in ("angles", "other")}
    feeds |= {n: np.zeros((batch, HEADS, 0, HEAD), np.float32) for n in ("pk", "pv")}
    feeds |= {"last": np.full(batch, length - 1, np.int32), "total": np.array(length, np.int32)}
    sess = ort.InferenceSession(model.SerializeToString())
    return sess.run(None, {i.name: feeds[i.name] for i in sess.get_inputs()})


def fused(model: onnx.ModelProto) -> tuple[bool, onnx.ModelProto]:
    result = RotaryPass()(ir.serde.deserialize_model(model))
    ir.passes.common.RemoveUnusedNodesPass()(result.model)
    return result.modified, ir.serde.serialize_model(result.model)


def test_angles_need_not_come_from_positions() -> None:
    model = attention_model()
    modified, after = fused(model)
    assert modified
    assert Counter(n.op_type for n in after.graph.node)["RotaryEmbedding"] == 2
    for a, b in zip(outputs(model), outputs(after), strict=True):
        np.testing.assert_allclose(b, a, atol=tolerances.ROTARY)


@pytest.mark.parametrize("change", [{"swap": True}, {"sin_of": "other"}, {"doubled": "other"}])
def test_what_only_looks_like_a_rotation_stays(change: dict) -> None:
    model = attention_model(**change)
    modified, after = fused(model)
    assert not modified
    assert [n.op_type for n in after.graph.node] == [n.op_type for n in model.graph.node]


def test_a_second_reader_of_the_rotated_key_keeps_it() -> None:
    model = attention_model()
    model.graph.output.append(helper.make_tensor_value_info("kh_out", FLOAT, ["b", HEADS, "s", HEAD]))
    before, (modified, after) = outputs(model), fused(model)
    assert modified
    for a, b in zip(before, outputs(after), strict=True):
        np.testing.assert_allclose(b, a, atol=tolerances.ROTARY)


def test_the_pass_does_nothing_the_second_time() -> None:
    _, once = fused(attention_model())
    assert not fused(once)[0]
