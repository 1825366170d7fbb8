"""A graph in which bytes that two initializers share are one initializer, for containers that copy every one.

Our external data holds a tied table once, and two initializers of different shape point at it:

    lm_head.qweight       uint8 [V, blocks, blob] ─┐ same file, offset and length
    embed_tokens.qweight  uint8 [V, blocks·blob]  ─┘

A file that embeds its weights, such as onnxruntime's ORT format, would hold the table twice. Here the matrix
multiplication keeps its initializer, which it needs as a constant, and the lookup reads it through a Reshape, which
onnxruntime runs without a copy. Initializers of equal shape become one without it: a Reshape of scales that a
MatMulNBits packs gives zeros in onnxruntime 1.32.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from dareq_edge.errors import ArtifactError


def one_table_graph(model: Path) -> bytes:
    """The graph of an ONNX file with every shared byte range in one initializer.

    Args:
        model: The file; its external data is not read.

    Returns:
        The serialized graph; it names the same external data.

    Raises:
        ArtifactError: The file cannot be read.
    """
    try:
        proto = onnx.load(model, load_external_data=False)
    except Exception as error:  # protobuf raises a class of its own
        raise ArtifactError(f"{model} cannot be read ({error}); export the folder again") from error
    places: dict[tuple[tuple[str, str], ...], list[onnx.TensorProto]] = defaultdict(list)
    for tensor in proto.graph.initializer:
        if tensor.external_data:
            places[tuple(sorted((e.key, e.value) for e in tensor.external_data))].append(tensor)
    views = []
    for tensors in places.values():
        owner = max(tensors, key=lambda t: len(t.dims))  # MatMulNBits' B has three dimensions, a looked up table two
        for tensor in tensors:
            if tensor is owner:
                continue
            if list(tensor.dims) == list(owner.dims):
                _rename(proto.graph, tensor.name, owner.name)
            else:
                views.append(_view(proto.graph, tensor, owner.name))
            proto.graph.initializer.remove(tensor)
    nodes = [*views, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return bytes(proto.SerializeToString())


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new


def _view(graph: onnx.GraphProto, tensor: onnx.TensorProto, owner: str) -> onnx.NodeProto:
    """A Reshape of ``owner`` under the name and in the shape of ``tensor``."""
    shape = f"{tensor.name}.shape"
    graph.initializer.append(numpy_helper.from_array(np.array(tensor.dims, np.int64), shape))
    return helper.make_node("Reshape", [owner, shape], [tensor.name], name=f"{tensor.name}.view")
