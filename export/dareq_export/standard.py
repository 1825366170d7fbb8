"""Rewrite a clean graph to the standard's operators, parameters included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from dareq_edge.spec import QuantSpec
from dareq_export.capture import Captured
from dareq_export.columns import ColumnLayout, beside, column_layout
from dareq_export.joins import Join
from dareq_export.passes.standard_lookup import StandardLookupPass
from dareq_export.passes.standard_matmul import StandardMatMulPass

_INTEGERS = {4: ir.DataType.INT4, 8: ir.DataType.INT8}


def standardize(
    captured: Captured, values: Mapping[str, ir.Value], joins: Sequence[Join], plan: Mapping[str, QuantSpec]
) -> Captured:
    """Replace MatMulNBits and GatherBlockQuantized, in place.

    Args:
        captured: After ``passes.clean``; its parameters are graph inputs.
        values: The parameters, from ``bind.detach_parameters``; they get the types and shapes of the new form.
        joins: Parameters that passes joined; rows under rows become columns beside columns.
        plan: Module name → spec.

    Returns:
        The same graph with the layouts it has now.
    """
    layouts = {
        module: column_layout((old.n, old.k), plan[captured.tied.get(module, module)])
        for module, old in captured.layouts.items()
    }
    named: dict[str, ColumnLayout] = {}
    for module, layout in layouts.items():
        codes = values.get(f"{module}.qweight")
        if codes is not None:
            named[str(codes.name)] = layout
            _retype(codes, values[f"{module}.scales"], layout)
    joined = {join.parts[0]: join for join in joins}
    for first, join in joined.items():
        if first in named:
            together = beside([named[part] for part in join.parts])
            named[str(join.value.name)] = together
            _retype(join.value, joined[first.removesuffix("qweight") + "scales"].value, together)
    passes = ir.passes.Sequential(StandardMatMulPass(named), StandardLookupPass(named))
    passes(captured.model)
    return replace(captured, layouts=layouts)


def _retype(codes: ir.Value, scales: ir.Value, layout: ColumnLayout) -> None:
    looked_up = any(use.node.op_type == "GatherBlockQuantized" for use in codes.uses())
    packed = looked_up and layout.bits < 8  # no Gather takes int4
    codes.type = ir.TensorType(ir.DataType.UINT8 if packed else _INTEGERS[layout.bits])
    codes.shape = ir.Shape(layout.lookup_shape if packed else layout.shape)
    scales.shape = ir.Shape(layout.scales_shape)
