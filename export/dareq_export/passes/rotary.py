"""Pass: rotary embeddings of queries and keys → com.microsoft::RotaryEmbedding right before attention.

The operator takes tables of cos and sin and the row of every token. Here the tables hold just the tokens of this
call: cos and sin of the model's own angles [B*S, R/2], and row b*S + s for token (b, s). So whatever the model
computes its angles from (any rope scaling, any padding) stays as it is, nothing is stored and no context is a limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dareq_export.passes.rotary_match import Rotation, rotation_above

_SWAP = (0, 2, 1, 3)  # [B, S, H, D] to [B, H, S, D] and back


@dataclass(frozen=True, slots=True)
class _Tables:
    """Inputs of RotaryEmbedding that all layers share: int64 [B, S], float32 [B*S, R/2] twice."""

    rows: ir.Value
    cos: ir.Value
    sin: ir.Value


class RotaryPass(ir.passes.InPlacePass):
    """Replace every rotary embedding between a head split and a GroupQueryAttention; other uses stay."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Go through the attention nodes in graph order; each has its query and key as inputs 0 and 1."""
        tables: dict[tuple[ir.Value, float], _Tables] = {}
        modified = False
        for node in list(model.graph):
            if (node.domain, node.op_type) != ("com.microsoft", "GroupQueryAttention"):
                continue
            for index, heads in enumerate(("num_heads", "kv_num_heads")):
                modified |= _fuse(node, index, node.attributes[heads].as_int(), tables)
        return ir.passes.PassResult(model, modified)


def _fuse(attention: ir.Node, index: int, heads: int, tables: dict[tuple[ir.Value, float], _Tables]) -> bool:
    """Rotate input ``index`` of one attention node by the operator, if the graph rotates it now."""
    joined = attention.inputs[index]
    reshape = None if joined is None else joined.producer()
    transpose = _producer(reshape, "Reshape")
    if joined is None or reshape is None or transpose is None or transpose.op_type != "Transpose":
        return False
    rotation = rotation_above(transpose.inputs[0])
    if rotation is None or not _swaps(transpose) or not _joins(joined, rotation, heads):
        return False
    key = (rotation.angles, rotation.factor)
    if key not in tables:
        tables[key] = _emit_tables(attention, rotation)
    attention.replace_input_with(index, _emit(attention, rotation, transpose, reshape, heads, tables[key]))
    return True


def _producer(node: ir.Node | None, op_type: str) -> ir.Node | None:
    """The node that makes the first input of ``node``, if ``node`` is an ONNX operator of this type."""
    if node is None or node.domain != "" or node.op_type != op_type or node.inputs[0] is None:
        return None
    return node.inputs[0].producer()


def _joins(joined: ir.Value, rotation: Rotation, heads: int) -> bool:
    """Whether [B, S, H*D] holds the rotated [B, H, S, D] of this many heads."""
    shape = rotation.source.shape
    if shape is None or joined.shape is None or len(joined.shape) != 3 or not isinstance(shape[3], int):
        return False
    return shape[1] == heads and joined.shape[2] == heads * shape[3]


def _emit(
    attention: ir.Node, rotation: Rotation, transpose: ir.Node, reshape: ir.Node, heads: int, tables: _Tables
) -> ir.Value:
    """The unrotated heads joined again [B, S, H*D], which a clean-up pass may cancel, then rotated."""
    tape = ir.tape.Tape()
    swapped = _swapped(rotation.source, tape)
    swapped.type, swapped.shape = transpose.outputs[0].type, transpose.outputs[0].shape
    joined = tape.op("Reshape", [swapped, reshape.inputs[1]], dict(reshape.attributes))
    width, size = rotation.width, rotation.source.shape[3] if rotation.source.shape else 0
    attributes = {} if width == size else {"num_heads": heads, "rotary_embedding_dim": width}
    inputs = [joined, tables.rows, tables.cos, tables.sin]
    rotated = tape.op("RotaryEmbedding", inputs, attributes, domain="com.microsoft")
    for value in (joined, rotated):
        value.type, value.shape = reshape.outputs[0].type, reshape.outputs[0].shape
    attention.prepend(tape.nodes)
    return rotated


def _swapped(source: ir.Value, tape: ir.tape.Tape) -> ir.Value:
    """The [B, S, H, D] of which ``source`` [B, H, S, D] is the transpose, through a norm over D if there is one."""
    node = source.producer()
    before = None if node is None else node.inputs[0]
    if node is not None and before is not None and node.domain == "":
        if node.op_type == "Transpose" and _swaps(node):
            return before
        if node.op_type == "SimplifiedLayerNormalization" and _is_swapped(before):
            inputs = [_swapped(before, tape), node.inputs[1]]
            return tape.op("SimplifiedLayerNormalization", inputs, dict(node.attributes))
    return tape.op("Transpose", [source], {"perm": _SWAP})


def _is_swapped(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and (node.domain, node.op_type) == ("", "Transpose") and _swaps(node)


def _swaps(transpose: ir.Node) -> bool:
    return tuple(transpose.attributes["perm"].as_ints()) == _SWAP


def _emit_tables(attention: ir.Node, rotation: Rotation) -> _Tables:
    """The tables of one kind of angles, before the first attention that needs them."""
    assert attention.graph is not None
    assert rotation.angles.shape is not None
    graph, half = attention.graph, rotation.width // 2
    zero, one, flat = (_constant(graph, np.array(v, np.int64)) for v in (0, 1, [-1, half]))
    tape = ir.tape.Tape()
    shape = tape.op("Shape", [rotation.angles], {"start": 0, "end": 2})
    count = tape.op("ReduceProd", [shape], {"keepdims": 0})
    rows = tape.op("Reshape", [tape.op("Range", [zero, count, one]), shape])
    rows.dtype, rows.shape = ir.DataType.INT64, ir.Shape(rotation.angles.shape[:2])
    angles = tape.op("Reshape", [rotation.angles, flat])
    cos, sin = tape.op("Cos", [angles]), tape.op("Sin", [angles])
    if rotation.factor != 1.0:
        factor = _constant(graph, np.array(rotation.factor, np.float32))
        cos, sin = tape.op("Mul", [cos, factor]), tape.op("Mul", [sin, factor])
    for value in (angles, cos, sin):
        value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape((None, half))
    attention.prepend(tape.nodes)
    return _Tables(rows, cos, sin)


def _constant(graph: ir.Graph | ir.Function, array: NDArray[np.int64] | NDArray[np.float32]) -> ir.Value:
    """An initializer of this value; equal ones share a name."""
    assert isinstance(graph, ir.Graph)
    name = f"rotary.{array.dtype}.{'_'.join(map(str, array.ravel().tolist()))}"
    if name not in graph.initializers:
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        graph.register_initializer(value)
    return graph.initializers[name]
