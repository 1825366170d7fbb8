"""Pass: MatMulNBits → the standard's DequantizeLinear, MatMul and Add.

    MatMulNBits(x, B [N, k_blocks, blob], scales [N, k_blocks], bias)
        →   MatMul(x, DequantizeLinear(W int4 [K, N], scales [N], axis=1)) + bias

onnxruntime's CPU provider fuses the three back at load, the bias included, where the settings in
``dareq_export.profiles`` are given. Parameters have their new types and shapes already: ``dareq_export.standard``.
"""

from __future__ import annotations

import onnx_ir as ir

from dareq_export.columns import ColumnLayout
from dareq_export.passes._layout_rewrite import LayoutRewritePass

_BIAS = 5


class StandardMatMulPass(LayoutRewritePass):
    """Rewrite every MatMulNBits."""

    operator = "MatMulNBits"
    codes = 1

    def rewrite(self, graph: ir.Graph, node: ir.Node, layout: ColumnLayout) -> None:
        """Replace one product."""
        x, weight, scales = node.inputs[:3]
        bias = node.inputs[_BIAS] if len(node.inputs) > _BIAS else None
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
