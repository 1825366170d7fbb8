"""Where llama.cpp's k-quant mixes use more bits: the first and the last eighth of the blocks, every third between.

After ``use_more_bits`` in ggml-org/llama.cpp, src/llama-quant.cpp. There it decides about value and down projections
alone; here about the whole block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dareq_edge.allocation.facts import Facts
from dareq_edge.allocation.rules import Needs, check_bits


@dataclass(frozen=True, slots=True)
class KQuantLike:
    """``high`` bits for those blocks, ``low`` for the others.

    Attributes:
        high: Bits; ``None`` is float.
        low: Bits; ``None`` is float.

    Raises:
        SpecError: A value cannot work.
    """

    needs: ClassVar[Needs] = "config"

    high: int | None = 6
    low: int | None = 4

    def __post_init__(self) -> None:
        check_bits("high", self.high)
        check_bits("low", self.low)

    def __call__(self, facts: Facts, scores: Sequence[float] | None) -> tuple[int | None, ...]:
        """See ``dareq_edge.allocation.rules.Rule``."""
        n = facts.blocks
        eighth = n // 8
        more = [i < eighth or i >= 7 * n // 8 or (i - eighth) % 3 == 2 for i in range(n)]
        return tuple(self.high if chosen else self.low for chosen in more)


RULE = KQuantLike
