"""Proof that the graph is what was planned; everything here raises ExportError and names the tensor."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from dareq_edge.errors import ExportError
from dareq_edge.kernel_layout import BlockLayout
from dareq_edge.spec import QuantSpec
from dareq_export.capture import Captured
from dareq_export.columns import ColumnLayout
from dareq_export.slots import Slot

_INLINE_LIMIT = 1 << 20  # rotary tables and constants the capture computed; weights are never inline
_MICROSOFT = "com.microsoft"


def verify(captured: Captured, slots: Mapping[str, Slot], plan: Mapping[str, QuantSpec]) -> None:
    """Check that every planned matrix was lowered, exactly once, and that no float copy of it is left.

    Raises:
        ExportError: A planned module was not lowered, a float copy of it remains, or a constant is unexplained.
    """
    wanted = set(plan) | {head for head, table in captured.tied.items() if table in plan}
    for module in sorted(wanted):
        _check_lowered(module, captured, slots)
        if f"{module}.weight" in slots:
            raise ExportError(f"{module} is still in the graph as float32; export again or skip it")
    homes = {slot.home for slot in slots.values()}
    for name, value in captured.model.graph.initializers.items():
        tensor = value.const_value
        if value not in homes and (tensor is None or tensor.nbytes > _INLINE_LIMIT):
            size = "no value" if tensor is None else f"{tensor.nbytes} bytes"
            raise ExportError(f"the capture left a constant {name} of {size} that no checkpoint tensor explains")


def _check_lowered(module: str, captured: Captured, slots: Mapping[str, Slot]) -> None:
    slot = slots.get(f"{module}.qweight")
    nodes = [] if slot is None else [use.node for use in slot.home.uses()]
    layout = captured.layouts.get(module)
    if layout is None or len(nodes) != 1:
        raise ExportError(f"{module} is planned for int4/int8 but {len(nodes)} nodes of the graph use it, expected 1")
    if isinstance(layout, ColumnLayout):
        _check_standard(module, nodes[0], layout)
    else:
        _check_contrib(module, nodes[0], layout)


def _check_contrib(module: str, node: ir.Node, layout: BlockLayout) -> None:
    """One MatMulNBits or GatherBlockQuantized with the planned form."""
    if node.domain != _MICROSOFT or node.op_type not in ("MatMulNBits", "GatherBlockQuantized"):
        raise ExportError(f"{module} was lowered to {node.domain}::{node.op_type}, expected MatMulNBits")
    found = (node.attributes["bits"].as_int(), node.attributes["block_size"].as_int())
    if found != (layout.bits, layout.block_size):
        raise ExportError(f"{module} has bits, block_size {found}; planned {(layout.bits, layout.block_size)}")


def _check_standard(module: str, node: ir.Node, layout: ColumnLayout) -> None:
    """One Gather, or one DequantizeLinear along the planned axis whose result is one MatMul's weight."""
    if node.domain == "" and node.op_type == "Gather":
        return
    if node.domain != "" or node.op_type != "DequantizeLinear":
        raise ExportError(f"{module} was lowered to {node.domain}::{node.op_type}, expected DequantizeLinear")
    attribute = node.attributes.get("block_size")
    found = node.attributes["axis"].as_int(), None if attribute is None else attribute.as_int()
    planned = (1, None) if layout.group_size is None else (0, layout.group_size)
    if found != planned:
        raise ExportError(f"{module} has axis, block_size {found}; planned {planned}")
    users = [(use.node.op_type, use.idx) for use in node.outputs[0].uses()]
    if users != [("MatMul", 1)]:
        raise ExportError(f"{module} is multiplied out for {users}, expected one MatMul; this needs another profile")
