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


def summarize(rounds: Sequence[Metrics], base: Sequence[Metrics] | None) -> dict[str, Spread]:
    """Every metric that all rounds have.

    Args:
        rounds: Of one contestant.
        base: Of the first contestant, the same rounds in the same order; ``None`` if this is the first.
    """

    def values(name: str, of: Sequence[Metrics] | None) -> list[float] | None:
        return None if of is None or any(name not in metrics for metrics in of) else [m[name] for m in of]

    found = {name: values(name, rounds) for name in rounds[0]}
    return {name: Spread.of(v, values(name, base)) for name, v in found.items() if v is not None}
