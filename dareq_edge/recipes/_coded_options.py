"""What recipes for an entropy coder make of a user's options: 8-bit codes per channel, whatever their rate."""

from __future__ import annotations

from dataclasses import replace

from dareq_edge.errors import SpecError
from dareq_edge.plan import QuantOptions

TABLE_LAMBDA = 0.5
"""lambda of 8-bit tables: docs/entquant.md says what others cost."""


def coded_options(recipe: str, chosen: QuantOptions) -> QuantOptions:
    """Options with the form of EntQuant's codes.

    Args:
        recipe: For messages.
        chosen: The user's.

    Raises:
        SpecError: Other bits than 4, which is what is chosen where nothing is, or 8; groups; 4-bit tables.
    """
    if chosen.bits not in (4, 8) or chosen.group_size is not None:
        raise SpecError(
            f"recipe {recipe} has 8-bit codes per channel, not {chosen.bits} bits, {chosen.spec.scheme}; for "
            f"about {chosen.bits} bits per weight on disk use --recipe {recipe}+target_bits={chosen.bits}, and "
            "neither --bits nor --group-size"
        )
    for name in ("table_bits", "position_bits"):
        if getattr(chosen, name) == 4:
            option = f"--{name.replace('_', '-')}"
            raise SpecError(f"recipe {recipe} has no 4-bit tables; use {option} 8, which is coded too, or 32")
    return replace(chosen, method="entquant", bits=8)
