"""What several passes ask of a graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

MICROSOFT = "com.microsoft"


def is_op(node: ir.Node | None, op_type: str, domain: str = "") -> bool:
    """Whether ``node`` is that operator; ``None`` is not."""
    return node is not None and node.op_type == op_type and node.domain == domain


def attentions(graph: ir.Graph) -> Iterator[ir.Node]:
    """Every GroupQueryAttention, in graph order."""
    return (node for node in list(graph) if is_op(node, "GroupQueryAttention", MICROSOFT))


def used_once(value: ir.Value) -> bool:
    """Whether one input of one node is all that reads the value."""
    return len(value.uses()) == 1 and not value.is_graph_output()


def scalar(value: ir.Value | None) -> float | None:
    """The number a constant of one element holds; ``None`` for anything else."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return float(tensor.numpy().reshape(())) if tensor is not None and tensor.size == 1 else None


def is_parameter(value: ir.Value | None) -> bool:
    """Whether a value comes from outside the graph's nodes: an input, a weight or a constant."""
    return value is not None and (value.producer() is None or is_op(value.producer(), "Constant"))


def same_shape(a: ir.Value, b: ir.Value) -> bool:
    """Whether both shapes are known and equal; equal names are equal sizes."""
    known = a.shape is not None and b.shape is not None and all(_known(d) for d in a.shape)
    return known and a.shape == b.shape


def _known(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, int) or dim.value is not None


def int64s(graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
    """An int64 initializer of rank 1; one of that name is used again."""
    return constant(graph, name, np.array(numbers, dtype=np.int64))


def constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """An initializer that holds an array; one of that name is used again."""
    if name not in graph.initializers:
        tensor = ir.tensor(array, name=name)
        graph.initializers[name] = ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
    return graph.initializers[name]
