"""Bytes of weights that one token reads, against the onnx package's view of the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dareq_edge.errors import ArtifactError
from dareq_runtime.bench.weights import graph_weights


def test_a_folder_of_ours(tiny_folder: Path) -> None:
    path = tiny_folder / "model.onnx"
    graph = onnx.load(path).graph
    sizes = {tensor.name: numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer}
    found = graph_weights(path)
    assert found.read_bytes == sum(sizes.values()) - sizes["pos"] - sizes["embed.table"]
    assert found.files == (path, tiny_folder / "model.onnx.data")
    assert found.file_bytes == sum(file.stat().st_size for file in found.files)


def save(path: Path, nodes: list[onnx.NodeProto], **tensors: onnx.TensorProto) -> Path:
    for name, tensor in tensors.items():
        tensor.name = name
    graph = helper.make_graph(nodes, "g", [], [], list(tensors.values()))
    path.write_bytes(helper.make_model(graph).SerializeToString())  # onnx.save would write external data, too
    return path


def test_tied_transposed_and_only_looked_up(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.zeros((50, 8), np.float32))
    rows = numpy_helper.from_array(np.zeros((10, 8), np.float16))
    four = helper.make_tensor("", TensorProto.UINT4, [3, 5], np.zeros(15, np.uint8))
    unused = numpy_helper.from_array(np.zeros(1000, np.float32))
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["a"]),
        helper.make_node("Gather", ["rows", "ids"], ["b"]),
        helper.make_node("Transpose", ["table"], ["t"]),
        helper.make_node("MatMul", ["a", "t"], ["c"]),
        helper.make_node("MatMul", ["b", "t"], ["d"]),
        helper.make_node("DequantizeLinear", ["four", "a"], ["e"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, table=table, rows=rows, four=four, unused=unused)
    # The tied table once, however often it is multiplied by; 15 four-bit codes in 8 bytes.
    assert graph_weights(path).read_bytes == 50 * 8 * 4 + 8
    # A table that is transposed, but then only looked up, is still only looked up.
    path = save(tmp_path / "n.onnx", [nodes[2], helper.make_node("Gather", ["t", "ids"], ["a"])], table=table)
    assert graph_weights(path).read_bytes == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"\x3a\x7f", b"\xff" * 20, b"\x08\x0a"])
def test_what_is_no_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match="is not an ONNX model"):
        graph_weights(tmp_path / "m.onnx")


def test_weights_outside_that_are_missing_or_lead_away(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.zeros(8, np.float32))
    onnx.external_data_helper.set_external_data(tensor, "w.bin", 0, 32)
    tensor.data_location = TensorProto.EXTERNAL
    path = save(tmp_path / "m.onnx", [], w=tensor)
    with pytest.raises(ArtifactError, match=r"w\.bin is missing"):
        graph_weights(path)
    tensor.external_data[0].value = "../w.bin"
    with pytest.raises(ArtifactError, match="leads out of the folder"):
        graph_weights(save(tmp_path / "m.onnx", [], w=tensor))
