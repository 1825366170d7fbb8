"""Pass: MatMulNBits → the standard's DequantizeLinear, MatMul and Add.

    MatMulNBits(x, B [N, k_blocks, blob], scales [N, k_blocks], bias)
        →   MatMul(x, DequantizeLinear(W int4 [K, N], scales [N], axis=1)) + bias

onnxruntime's CPU provider fuses the three back at load, the bias included, where the settings in
``dareq_export.profiles`` are given. Parameters have their new types and shapes already: ``dareq_export.standard``.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from dareq_export.columns import ColumnLayout
from dareq_export.passes import _graph

_BIAS = 5


class StandardMatMulPass(ir.passes.InPlacePass):
    """Rewrite every MatMulNBits.

    Args:
        layouts: By the name of the node's weight.
    """

    def __init__(self, layouts: Mapping[str, ColumnLayout]) -> None:
        super().__init__()
        self._layouts = layouts

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite all of them."""
        found = [n for n in model.graph if _graph.is_op(n, "MatMulNBits", _graph.MICROSOFT)]
        for node in found:
            self._rewrite(model.graph, node)
        return ir.passes.PassResult(model, modified=bool(found))

    def _rewrite(self, graph: ir.Graph, node: ir.Node) -> None:
        x, weight, scales = node.inputs[:3]
        bias = node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
        assert weight is not None
        layout = self._layouts[str(weight.name)]
        grouped = layout.group_size is not None
        attributes = [ir.AttrInt64("axis", 0 if grouped else 1)]
        if layout.group_size is not None:
            attributes.append(ir.AttrInt64("block_size", layout.group_size))
        dequantize = ir.Node("", "DequantizeLinear", [weight, scales], attributes, num_outputs=1)
        product = ir.Node("", "MatMul", [x, dequantize.outputs[0]], num_outputs=1)
        nodes = [dequantize, product]
        if bias is not None:
            nodes.append(ir.Node("", "Add", [product.outputs[0], bias], num_outputs=1))
        old = node.outputs[0]
        dequantize.outputs[0].shape = ir.Shape(layout.shape)
        dequantize.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        for made in nodes[1:]:
            made.outputs[0].shape, made.outputs[0].type = old.shape, old.type
        ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, [old], [nodes[-1].outputs[0]])
