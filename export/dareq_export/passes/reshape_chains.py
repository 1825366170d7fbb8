"""Pass: drop a chain of Reshapes that ends in the shape it began with.

transformers splits heads ([B, S, H*D] → [B, S, H, D]) and GroupQueryAttention wants them joined again; in between
nothing is left after transposes cancelled. Shapes are compared symbolically: equal names are equal sizes.
"""

from __future__ import annotations

import onnx_ir as ir

from dareq_export.passes import _graph


def _origin(value: ir.Value) -> ir.Value | None:
    """The first value along the Reshape chain above ``value`` that has its very shape and dtype."""
    current = value
    while (node := current.producer()) is not None and node.op_type == "Reshape" and node.domain == "":
        source = node.inputs[0]
        if source is None:
            return None
        current = source
        if _graph.same_shape(value, current) and current.dtype == value.dtype:
            return current
    return None


class ReshapeChainsPass(ir.passes.InPlacePass):
    """Replace the end of such a chain by its beginning; dead Reshapes are removed by a later pass."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewire every chain once, in graph order."""
        modified = False
        outputs = set(model.graph.outputs)
        for node in model.graph:
            if node.op_type != "Reshape" or node.domain != "" or node.outputs[0] in outputs:
                continue
            origin = _origin(node.outputs[0])
            if origin is not None:
                ir.convenience.replace_all_uses_with(node.outputs[0], origin)
                modified = True
        return ir.passes.PassResult(model, modified)
