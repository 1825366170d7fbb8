"""The same bits everywhere: what every other rule has to beat at the same size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dareq_edge.allocation.facts import Facts
from dareq_edge.allocation.rules import Needs, check_bits


@dataclass(frozen=True, slots=True)
class Uniform:
    """One width for all blocks.

    Attributes:
        bits: 2 to 8; ``None`` keeps all blocks float.

    Raises:
        SpecError: It is neither.
    """

    needs: ClassVar[Needs] = "config"

    bits: int | None = 4

    def __post_init__(self) -> None:
        check_bits("bits", self.bits)

    def __call__(self, facts: Facts, scores: Sequence[float] | None) -> tuple[int | None, ...]:
        """See ``dareq_edge.allocation.rules.Rule``."""
        return (self.bits,) * facts.blocks


RULE = Uniform
