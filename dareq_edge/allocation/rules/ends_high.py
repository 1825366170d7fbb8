"""First and last blocks in more bits than the rest: the common rule of thumb that needs no measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dareq_edge.allocation.facts import Facts
from dareq_edge.allocation.rules import Needs, check_bits
from dareq_edge.errors import SpecError


@dataclass(frozen=True, slots=True)
class EndsHigh:
    """``high`` bits for the first and the last ``count`` blocks, ``low`` between them.

    Attributes:
        count: Blocks at either end; where they meet, all are high.
        high: Bits at the ends; ``None`` is float.
        low: Bits between them; ``None`` is float.

    Raises:
        SpecError: A value cannot work.
    """

    needs: ClassVar[Needs] = "config"

    count: int = 2
    high: int | None = 8
    low: int | None = 4

    def __post_init__(self) -> None:
        check_bits("high", self.high)
        check_bits("low", self.low)
        if not isinstance(self.count, int) or isinstance(self.count, bool) or self.count < 0:
            raise SpecError(f"count is {self.count!r}; use the number of blocks at either end, 0 or more")

    def __call__(self, facts: Facts, scores: Sequence[float] | None) -> tuple[int | None, ...]:
        """See ``dareq_edge.allocation.rules.Rule``."""
        n = facts.blocks
        return tuple(self.high if min(i, n - 1 - i) < self.count else self.low for i in range(n))


RULE = EndsHigh
