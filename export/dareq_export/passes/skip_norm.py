"""Pass: a residual sum and the norm that reads it become one operator.

    s = Add(x, y), n = LayerNormalization(s, γ, β)              → n, s = SkipLayerNormalization(x, y, γ, β)
    s = Add(x, y), n = SimplifiedLayerNormalization(s, γ)       → n, s = SkipSimplifiedLayerNormalization(x, y, γ)

The sum stays available as the fourth output where the residual goes on from it (pre-LN); post-LN models need only n.
Operator definitions: onnxruntime ContribOperators.md (1.32).
"""

from __future__ import annotations

import onnx_ir as ir

from dareq_export.passes import _graph

_FUSED = {
    "LayerNormalization": "SkipLayerNormalization",
    "SimplifiedLayerNormalization": "SkipSimplifiedLayerNormalization",
}


class SkipNormPass(ir.passes.InPlacePass):
    """Fuse every norm whose input is a sum of two values of one shape."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fuse the first norm of every sum; a second one on the same sum stays as it is."""
        modified = False
        for norm in list(model.graph):
            if norm.domain != "" or norm.op_type not in _FUSED or not _last_axis(norm):
                continue
            total = norm.inputs[0]
            add = None if total is None else total.producer()
            if add is None or total is None or not _graph.is_op(add, "Add") or total.is_graph_output():
                continue
            left, right = add.inputs
            if (
                left is None
                or right is None
                or not (_graph.same_shape(left, total) and _graph.same_shape(right, total))
            ):
                continue
            if not all(_graph.is_parameter(x) for x in norm.inputs[1:]) or len(left.shape or ()) != 3:
                continue
            _fuse(norm, add, total)
            modified = True
        return ir.passes.PassResult(model, modified)


def _last_axis(norm: ir.Node) -> bool:
    """Whether the norm runs along the last axis alone and gives nothing but its result."""
    axis = norm.attributes.get("axis")
    others = [v for v in norm.outputs[1:] if v.uses() or v.is_graph_output()]
    return (axis is None or axis.as_int() in (-1, 2)) and not others


def _fuse(norm: ir.Node, add: ir.Node, total: ir.Value) -> None:
    """Put the fused node where the Add was: everything that reads the sum comes later."""
    result = norm.outputs[0]
    epsilon = norm.attributes["epsilon"].as_float() if "epsilon" in norm.attributes else 1e-5
    node = ir.Node(
        _graph.MICROSOFT,
        _FUSED[norm.op_type],
        [*add.inputs, *norm.inputs[1:]],
        [ir.AttrFloat32("epsilon", epsilon)],
        num_outputs=4 if len(total.uses()) > 1 else 1,
    )
    graph = add.graph
    assert graph is not None
    graph.insert_before(add, node)
    _take_over(node.outputs[0], result)
    for unused in node.outputs[1:3]:
        unused.name = ""
    if len(node.outputs) > 1:
        _take_over(node.outputs[3], total)
    graph.remove([norm, add], safe=True)


def _take_over(new: ir.Value, old: ir.Value) -> None:
    new.shape, new.type = old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    new.name = old.name
