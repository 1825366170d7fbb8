"""Bytes that two initializers share become one initializer, and the numbers stay."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from dareq_edge.errors import ArtifactError
from dareq_export.one_table import one_table_graph


def external(name: str, dims: list[int], offset: int, length: int) -> onnx.TensorProto:
    """A float initializer whose bytes lie in the file "data"."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "data"), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """y = x · a + b + c, where a [4, 1, 2], b [4, 2] and c [4, 2] are the same 32 bytes, and d is 32 other ones."""
    np.arange(16, dtype=np.float32).tofile(tmp_path / "data")
    nodes = [
        helper.make_node("Reshape", ["b", "flat"], ["b0"]),  # reads it before anything else does
        helper.make_node("Squeeze", ["a"], ["a0"]),
        helper.make_node("Mul", ["x", "a0"], ["xa"]),
        helper.make_node("Add", ["xa", "b0"], ["xab"]),
        helper.make_node("Add", ["xab", "c"], ["xabc"]),
        helper.make_node("Add", ["xabc", "d"], ["y"]),
    ]
    initializers = [
        external("b", [4, 2], 0, 32),
        external("a", [4, 1, 2], 0, 32),
        external("c", [4, 2], 0, 32),
        external("d", [4, 2], 32, 32),
        helper.make_tensor("flat", TensorProto.INT64, [2], [4, 2]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4, 2]) for n in "xy"]
    graph = helper.make_graph(nodes, "shared", ends[:1], ends[1:], initializers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    return tmp_path / "model.onnx"


def test_each_byte_has_one_owner_and_the_numbers_stay(model: Path) -> None:
    changed = one_table_graph(model)
    graph = onnx.load_from_string(changed).graph
    places = Counter(str(list(t.external_data)) for t in graph.initializer if t.external_data)
    assert sorted(places.values()) == [1, 1]
    assert {t.name for t in graph.initializer if t.external_data} == {"a", "d"}
    assert [n.output[0] for n in graph.node[:2] if n.op_type == "Reshape"] == ["b", "c"]
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(model.parent))
    found = ort.InferenceSession(changed, options).run(None, {"x": x})[0]
    np.testing.assert_array_equal(found, ort.InferenceSession(model).run(None, {"x": x})[0])
    shared = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_allclose(found, x * shared + 2 * shared + shared + 8, rtol=1e-6)


def test_equal_shapes_share_a_name(model: Path) -> None:
    proto = onnx.load(model, load_external_data=False)
    del proto.graph.initializer[1].dims[:]
    proto.graph.initializer[1].dims.extend([4, 2])
    model.write_bytes(proto.SerializeToString())
    graph = onnx.load_from_string(one_table_graph(model)).graph
    assert len(graph.node) == len(proto.graph.node)
    assert {t.name for t in graph.initializer} == {"b", "d", "flat"}
    assert [list(n.input) for n in graph.node][:2] == [["b", "flat"], ["b"]]


def test_a_graph_without_shared_bytes_is_left_alone(model: Path) -> None:
    proto = onnx.load(model, load_external_data=False)
    for offset, tensor in enumerate(proto.graph.initializer[:4]):
        tensor.external_data[1].value = str(offset * 8)
    model.write_bytes(proto.SerializeToString())
    assert onnx.load_from_string(one_table_graph(model)) == proto


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no protobuf")
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be read"):
        one_table_graph(tmp_path / "model.onnx")
