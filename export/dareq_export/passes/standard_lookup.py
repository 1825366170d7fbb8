"""Pass: GatherBlockQuantized → standard operators on a table that lies as a head's weight does, [D, V].

    8 bits    Gather(table int8 [D, V], ids, axis 1) → Cast              [D, B, S]
    4 bits    Gather(table uint8 [D, V/2], ids / 2, axis 1) → BitShift by 4 · (ids mod 2)
              → low nibble, its sign turned over → Cast → less 8         [D, B, S]
    both      · Gather(scales [V], ids) → Transpose                      [B, S, D]

In this orientation a tied head's DequantizeLinear reads the very same bytes. A token costs D jumps through the table
instead of one row: measured in docs/profiles.md.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dareq_export.columns import ColumnLayout
from dareq_export.passes import _graph
from dareq_export.passes._layout_rewrite import LayoutRewritePass


class StandardLookupPass(LayoutRewritePass):
    """Rewrite every GatherBlockQuantized."""

    operator = "GatherBlockQuantized"
    codes = 0

    def rewrite(self, graph: ir.Graph, node: ir.Node, layout: ColumnLayout) -> None:
        """Replace one lookup."""
        table, ids, scales = node.inputs[:3]
        assert table is not None and ids is not None and scales is not None
        build = _Builder(graph)
        rows = build.op("Mul", _codes(build, table, ids, layout), _factors(build, scales, ids, layout))
        rows = build.op("Transpose", rows, perm=[1, 2, 0])
        old = _unpadded(node, layout)
        rows.shape, rows.type = old.shape, old.type
        dead = [n for n in (old.producer(), node) if n is not None]
        ir.convenience.replace_nodes_and_values(graph, node, list(dict.fromkeys(dead)), build.nodes, [old], [rows])


class _Builder:
    """Nodes in the making, of the standard's domain with one output each."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.nodes: list[ir.Node] = []

    def op(self, kind: str, *inputs: ir.Value, **attributes: int | str | list[int]) -> ir.Value:
        made = [ir.convenience.convert_attribute(name, value) for name, value in attributes.items()]
        self.nodes.append(ir.Node("", kind, inputs, made, num_outputs=1))
        return self.nodes[-1].outputs[0]

    def constant(self, name: str, value: int | list[int], dtype: type[np.generic]) -> ir.Value:
        return _graph.constant(self.graph, name, np.array(value, dtype=dtype))


def _factors(build: _Builder, scales: ir.Value, ids: ir.Value, layout: ColumnLayout) -> ir.Value:
    """The scales of the ids' columns: float32 [B, S], or [D, B, S] where a column has several."""
    if layout.group_size is None:
        return build.op("Gather", scales, ids, axis=0)
    groups = [row // layout.group_size for row in range(layout.k)]
    name = f"groups.{layout.k}.{layout.group_size}"
    return build.op("Gather", build.op("Gather", scales, ids, axis=1), build.constant(name, groups, np.int64), axis=0)


def _codes(build: _Builder, table: ir.Value, ids: ir.Value, layout: ColumnLayout) -> ir.Value:
    """The numbers of the ids' columns, less their zero point: float32 [D, B, S]."""
    if layout.bits == 8:
        return build.op("Cast", build.op("Gather", table, ids, axis=1), to=int(ir.DataType.FLOAT))
    two = build.constant("lookup.two", 2, np.int64)
    pairs = build.op("Gather", table, build.op("Div", ids, two), axis=1)
    odd = build.op("Mul", build.op("Mod", ids, two), build.constant("lookup.four", 4, np.int64))
    shifted = build.op("BitShift", pairs, build.op("Cast", odd, to=int(ir.DataType.UINT8)), direction="RIGHT")
    nibble = build.op("BitwiseAnd", shifted, build.constant("lookup.nibble", 15, np.uint8))
    # Two's complement: with the sign bit turned over it is the number plus 8.
    turned = build.op("BitwiseXor", nibble, build.constant("lookup.sign", 8, np.uint8))
    number = build.op("Cast", turned, to=int(ir.DataType.FLOAT))
    return build.op("Sub", number, build.constant("lookup.eight", 8, np.float32))


def _unpadded(node: ir.Node, layout: ColumnLayout) -> ir.Value:
    """What the lookup gives, or what is left of it after the Slice that takes the padding of its blocks off."""
    old = node.outputs[0]
    users = [use.node for use in old.uses()]
    width = None if old.shape is None else old.shape[-1]
    if width != layout.k and len(users) == 1 and _graph.is_op(users[0], "Slice"):
        return users[0].outputs[0]
    return old
