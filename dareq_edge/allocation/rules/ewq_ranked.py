"""EWQ's order at a size of one's choice: thresholds decide what EWQ's model weighs, so sizes cannot be compared.

From the block with the highest entropy down, a block gets ``high`` bits wherever that still fits into an average of
``bits`` per weight; the others get ``low``. Not published: it asks what the order is worth at equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from dareq_edge.allocation.facts import Facts
from dareq_edge.allocation.rules import Needs, check_bits, check_number, check_scores
from dareq_edge.errors import SpecError


@dataclass(frozen=True, slots=True)
class EntropyRanked:
    """Two widths, and how many blocks get the larger one.

    Attributes:
        bits: Average over the weights in blocks, scales not counted; never passed.
        low: Bits of blocks of low entropy.
        high: Bits of blocks of high entropy.
        epsilon: Of the entropies that are to be measured.

    Raises:
        SpecError: A value cannot work.
    """

    needs: ClassVar[Needs] = "weights"

    bits: float = 5.0
    low: int = 4
    high: int = 8
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        check_bits("low", self.low, raw=False)
        check_bits("high", self.high, raw=False)
        check_number("epsilon", self.epsilon, 0, 1)
        value: object = self.bits  # the command line may hand over anything
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise SpecError(f"bits is {value!r}; use a number from low, {self.low}, to high, {self.high}")

    def __call__(self, facts: Facts, scores: Sequence[float] | None) -> tuple[int | None, ...]:
        """See ``dareq_edge.allocation.rules.Rule``."""
        values = check_scores(facts, scores)
        sizes = [facts.parameters(i) for i in range(facts.blocks)]
        left = (self.bits - self.low) * sum(sizes)
        found = [self.low] * facts.blocks
        for i in sorted(range(facts.blocks), key=lambda i: -values[i]):
            cost = (self.high - self.low) * sizes[i]
            if cost <= left:
                found[i], left = self.high, left - cost
        return tuple(found)


RULE = EntropyRanked
