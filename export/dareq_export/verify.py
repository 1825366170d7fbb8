"""Proof that the graph is what was planned; everything here raises ExportError and names the tensor."""

from __future__ import annotations

from collections.abc import Mapping

from dareq_edge.errors import ExportError
from dareq_edge.spec import QuantSpec
from dareq_export.bind import Slot
from dareq_export.capture import Captured

_INLINE_LIMIT = 1 << 20  # rotary tables and constants the capture computed; weights are never inline


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
    node = nodes[0]
    if (node.domain, node.op_type) not in {
        ("com.microsoft", "MatMulNBits"),
        ("com.microsoft", "GatherBlockQuantized"),
    }:
        raise ExportError(f"{module} was lowered to {node.domain}::{node.op_type}, expected MatMulNBits")
    found = (node.attributes["bits"].as_int(), node.attributes["block_size"].as_int())
    if found != (layout.bits, layout.block_size):
        raise ExportError(f"{module} has bits, block_size {found}; planned {(layout.bits, layout.block_size)}")
