"""Medians, spreads and ratios over the rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

Metrics = Mapping[str, float]
"""One round of one contestant, ``Sample.metrics``."""


@dataclass(frozen=True, slots=True)
class Spread:
    """One number over the rounds: median, least, largest.

    Attributes:
        ratio: To the first contestant: the median of the rounds' ratios, so that a machine that slows down between
            two rounds does not enter; ``None`` where there is nothing to compare with.
    """

    median: float
    low: float
    high: float
    ratio: float | None = None

    @classmethod
    def of(cls, values: Sequence[float], base: Sequence[float] | None = None) -> Spread:
        """The spread of ``values``; ``base`` holds the first contestant's in the same rounds."""
        ratios = [] if base is None else [v / b for v, b in zip(values, base, strict=True) if b > 0]
        return cls(median(values), min(values), max(values), median(ratios) if ratios else None)

    def to_json(self) -> dict[str, float | None]:
        """Plain data."""
        return asdict(self)


def summarize(rounds: Sequence[Metrics], base: Sequence[Metrics]) -> dict[str, Spread]:
    """Every metric that all rounds have.

    Args:
        rounds: Of one contestant.
        base: Of the first contestant, the same rounds in the same order.
    """
    names = [name for name in rounds[0] if all(name in metrics for metrics in rounds)]
    return {
        name: Spread.of(
            [metrics[name] for metrics in rounds],
            [metrics[name] for metrics in base] if all(name in metrics for metrics in base) else None,
        )
        for name in names
    }
