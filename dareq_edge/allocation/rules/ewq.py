"""EWQ (arXiv 2503.04704v2): blocks of low softmax entropy get few bits, blocks of high entropy stay float.

With m and s the mean and the standard deviation of block entropies and T = m - deviations * s (1 in the paper, 0.65
in namtb96/Entropy-Weighted-Quantization-PoC@0881003; unverified, as the authors published no code):

    paper        H <= T: low    T < H <= m: middle    H > m: high
    percentile   H < T: low     T <= H: middle        H >= the ``percentile``-th percentile of H: high

High is float as published, middle 8 bits, low 4; ``low`` = 2 stands for the paper's 1.58 bits for when memory is
short. Entropy falls with the variance of the weights and with their largest (``allocation.entropy``).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from dareq_edge.allocation.facts import Facts
from dareq_edge.allocation.rules import Needs, check_bits, check_number, check_scores
from dareq_edge.errors import SpecError

Decision = Literal["paper", "percentile"]


@dataclass(frozen=True, slots=True)
class EntropyWeighted:
    """Thresholds on block entropies.

    Attributes:
        deviations: X, standard deviations of T below the mean.
        decision: "paper" or "percentile".
        percentile: From where on a block stays float, where ``decision`` says so.
        low: Bits of the class of the lowest entropies.
        middle: Bits of the class between.
        high: Bits of the highest; ``None`` is float.
        epsilon: Of the entropies that are to be measured.

    Raises:
        SpecError: A value cannot work.
    """

    needs: ClassVar[Needs] = "weights"

    deviations: float = 1.0
    decision: Decision = "paper"
    percentile: float = 75.0
    low: int = 4
    middle: int = 8
    high: int | None = None
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        check_bits("low", self.low, raw=False)
        check_bits("middle", self.middle, raw=False)
        check_bits("high", self.high)
        if self.decision not in get_args(Decision):
            raise SpecError(f"decision is {self.decision!r}; use paper or percentile")
        check_number("deviations", self.deviations, 0, 100)
        check_number("percentile", self.percentile, 0, 100)
        check_number("epsilon", self.epsilon, 0, 1)

    def __call__(self, facts: Facts, scores: Sequence[float] | None) -> tuple[int | None, ...]:
        """See ``dareq_edge.allocation.rules.Rule``."""
        values = check_scores(facts, scores)
        low, high = self.thresholds(values).values()
        if self.decision == "paper":
            return tuple(self.low if s <= low else self.middle if s <= high else self.high for s in values)
        return tuple(self.high if s >= high else self.low if s < low else self.middle for s in values)

    def thresholds(self, scores: Sequence[float]) -> dict[str, float]:
        """The lower and the upper threshold by their names, nats."""
        # statistics adds exactly: equal scores have that very mean, and no deviation
        mean = statistics.mean(map(float, scores))
        low = mean - self.deviations * statistics.pstdev(map(float, scores))
        label = f"mean - {self.deviations:g} sigma"
        if self.decision == "paper":
            return {label: low, "mean": mean}
        return {label: low, f"{self.percentile:g} % percentile": _percentile(scores, self.percentile)}


def _percentile(scores: Sequence[float], percent: float) -> float:
    """Linear between the sorted scores, as numpy has it."""
    ordered = sorted(scores)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


RULE = EntropyWeighted
