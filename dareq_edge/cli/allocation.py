"""--max-size: the plan that it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from dareq_edge.errors import SpecError

if TYPE_CHECKING:
    from dareq_edge.allocation.planners import WithinBytes

_INSTEAD = ("bits", "group_size")


def planner(context: typer.Context, max_size: str | None, *, cache_bits: int = 32) -> WithinBytes | None:
    """What makes the plan; ``None`` leaves it to the other options.

    Args:
        context: Of the command.
        max_size: As the user wrote it.
        cache_bits: As the model will be exported.

    Raises:
        SpecError: An option that --max-size takes the place of is given too.
        AllocationError: It is no size.
    """
    if max_size is None:
        return None
    from dareq_edge.allocation.bytes import parse_bytes
    from dareq_edge.allocation.planners import WithinBytes

    for name in _INSTEAD:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise SpecError(f"--max-size decides --{name.replace('_', '-')}; give one of the two")
    return WithinBytes(parse_bytes(max_size), cache_bits=cache_bits)
