"""Pass: SimplifiedLayerNormalization → the standard's RMSNormalization, which onnx.checker knows.

onnxruntime registers SimplifiedLayerNormalization in ONNX's own domain, where onnx.checker refuses any operator that
the standard lacks. The pass runs last, on what no later fusion took.
"""

from __future__ import annotations

import onnx_ir as ir

OPSET = 23  # the first with RMSNormalization


class StandardNormPass(ir.passes.InPlacePass):
    """Rename the operator (inputs and attributes are the same) and raise the opset if there was one.

    Operators that the capture emits gained types in opsets 22 and 23 but kept their meaning.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rename every one."""
        found = [n for n in model.graph if n.op_type == "SimplifiedLayerNormalization" and n.domain == ""]
        for node in found:
            node.op_type = "RMSNormalization"
        if found:
            model.graph.opset_imports[""] = max(OPSET, model.graph.opset_imports[""])
        return ir.passes.PassResult(model, modified=bool(found))
