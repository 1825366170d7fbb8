"""Pass: a constant factor on the queries becomes GroupQueryAttention's own ``scale``.

    Mul(q, c) → GroupQueryAttention(scale=s)      becomes      q → GroupQueryAttention(scale=s·c)

OPT multiplies its queries by 1/sqrt(head size) and then asks for scale 1. Without the Mul the queries can come
straight out of the joined projection. Exact where c is a power of two, one float32 rounding otherwise.
"""

from __future__ import annotations

import onnx_ir as ir

from dareq_export.passes import _graph


class QueryScalePass(ir.passes.InPlacePass):
    """Fold the factor of every attention whose queries have one."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewire every attention once; the Mul, now unused, is removed."""
        modified = False
        for node in _graph.attentions(model.graph):
            query = node.inputs[0]
            product = None if query is None else query.producer()
            if query is None or product is None or not _graph.is_op(product, "Mul") or not _graph.used_once(query):
                continue
            factors = [(i, _graph.scalar(value)) for i, value in enumerate(product.inputs)]
            found = next(((i, c) for i, c in factors if c is not None), None)
            if found is None:
                continue
            index, factor = found
            scale = node.attributes["scale"].as_float() * factor
            node.attributes["scale"] = ir.AttrFloat32("scale", scale)
            node.replace_input_with(0, product.inputs[1 - index])
            model.graph.remove(product, safe=True)
            modified = True
        return ir.passes.PassResult(model, modified)
