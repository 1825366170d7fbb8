"""Pass: what a model computes on [B*S, H] it computes on [B, S, H], and the Reshapes around it go.

    x [B, S, H] → Reshape [B*S, H] → norm → MatMulNBits → Relu → MatMulNBits → Add → Reshape [B, S, H]

OPT flattens tokens around its feed-forward block. Every operator in between works along the last axis, so the region
can keep the rank of what enters it. A region is rewritten only if all of it is known: each way in is such a Reshape
of the same leading shape or a constant, each way out the Reshape back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from dareq_export.passes import _graph

_POINTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Relu", "Gelu", "Sigmoid", "Tanh", "Erf", "Pow", "Sqrt", "Neg"})
_NORMS = frozenset({"LayerNormalization", "SimplifiedLayerNormalization"})


class FlatRegionsPass(ir.passes.InPlacePass):
    """Rewrite every closed region of flattened tokens; dead Reshapes are removed by a later pass."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Look at every flattening Reshape once, in graph order."""
        seen: set[ir.Value] = set()
        modified = False
        for node in list(model.graph):
            if not _flattens(node) or node.outputs[0] in seen:
                continue
            region = _Region(node.inputs[0])  # type: ignore[arg-type]  # a Reshape has an input
            closed = region.grow(node.outputs[0])
            seen |= region.flat
            if closed and region.exits:
                region.unflatten()
                modified = True
        return ir.passes.PassResult(model, modified)


def _flattens(node: ir.Node) -> bool:
    """Whether a node is a Reshape [.., H] → [rows, H] of a value of rank 3 or more."""
    if not _graph.is_op(node, "Reshape") or node.inputs[0] is None:
        return False
    before, after = node.inputs[0].shape, node.outputs[0].shape
    if before is None or after is None or len(before) < 3 or len(after) != 2:
        return False
    return isinstance(after[1], int) and before[-1] == after[1] and not node.outputs[0].is_graph_output()


@dataclass
class _Region:
    """Flattened values that depend on each other, and the Reshapes at their border."""

    source: ir.Value  # what the first way in flattens; gives the leading shape
    flat: set[ir.Value] = field(default_factory=set)
    entries: list[ir.Node] = field(default_factory=list)
    exits: list[ir.Node] = field(default_factory=list)

    def grow(self, start: ir.Value) -> bool:
        """Collect everything reached from ``start``; false if something in it needs two dimensions."""
        pending = [start]
        while pending:
            value = pending.pop()
            if value in self.flat:
                continue
            self.flat.add(value)
            if value.is_graph_output() or not self._enter(value, pending):
                return False
            for node, _ in value.uses():
                if self._leaves(node):
                    self.exits.append(node)
                elif _rowwise(node):
                    pending.append(node.outputs[0])
                else:
                    return False
        return True

    def _enter(self, value: ir.Value, pending: list[ir.Value]) -> bool:
        """Note how a flat value comes about: by a Reshape of ours, or from other flat values."""
        node = value.producer()
        if node is None:
            return False
        if _flattens(node):
            self.entries.append(node)
            return self._leading(node.inputs[0]) == self._leading(self.source)
        if not _rowwise(node):
            return False
        pending.extend(x for x in _operands(node) if not _graph.is_parameter(x) or _rank(x) > 1)
        return True

    def _leaves(self, node: ir.Node) -> bool:
        """Whether a node gives a flat value the leading shape back."""
        if not _graph.is_op(node, "Reshape") or node.inputs[0] not in self.flat:
            return False
        before, after = node.inputs[0].shape, node.outputs[0].shape
        if before is None or after is None or before[-1] != after[-1]:
            return False
        return self._leading(node.outputs[0]) == self._leading(self.source)

    def _leading(self, value: ir.Value | None) -> list[int | str | None]:
        if value is None or value.shape is None:
            return []
        return [d if isinstance(d, int) else d.value for d in value.shape[:-1]]

    def unflatten(self) -> None:
        """Bypass the border and give every value in between its leading shape."""
        leading = list(self.source.shape[:-1]) if self.source.shape is not None else []
        for value in self.flat:
            if value.shape is not None:
                value.shape = ir.Shape([*leading, value.shape[-1]])
            node = value.producer()
            if node is not None and node.op_type in _NORMS:
                node.attributes["axis"] = ir.AttrInt64("axis", -1)
        for node in self.entries:
            ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])  # type: ignore[arg-type]
        for node in self.exits:
            ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0], replace_graph_outputs=True)  # type: ignore[arg-type]


def _rowwise(node: ir.Node) -> bool:
    """Whether an operator treats rows alike whatever the rank of what holds them."""
    if _graph.is_op(node, "MatMulNBits", _graph.MICROSOFT) or (node.domain == "" and node.op_type in _POINTWISE):
        return True
    return node.domain == "" and node.op_type in _NORMS and node.attributes["axis"].as_int() in (-1, 1)


def _operands(node: ir.Node) -> list[ir.Value]:
    """The inputs that carry rows: weights and scales do not."""
    first_only = node.op_type in _NORMS or node.op_type == "MatMulNBits"
    return [x for x in (node.inputs[:1] if first_only else node.inputs) if x is not None]


def _rank(value: ir.Value) -> int:
    return 0 if value.shape is None else len(value.shape)
