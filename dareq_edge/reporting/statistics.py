"""What is known of quantized matrices: records, without torch; ``measure`` makes them and says what they mean."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

BINS = 128
"""Of the entropy's histograms, as in the paper's code."""
STEP_BINS = 41
"""Of residuals in steps, over ±STEP_RANGE; an odd number, so that one is centred on 0."""
STEP_RANGE = 1.025
"""Residuals further out count in the outermost bins; bins are then 0.05 steps wide."""


@dataclass(frozen=True, slots=True)
class ScaleStats:
    """Magnitudes of a matrix's scales: extremes, quantiles, and how many there are."""

    count: int
    least: float
    low: float
    median: float
    high: float
    most: float


@dataclass(frozen=True, slots=True)
class ErrorStats:
    """Against the float matrix; see ``measure``.

    Attributes:
        relative: ‖r‖ / ‖W‖; 0 for a matrix of zeros.
        largest: Largest |r| / |s|, steps.
        entropy_before: Of W, nats.
        entropy_after: Of r, nats.
        histogram: Counts of r / |s| in ``STEP_BINS`` bins.
    """

    relative: float
    largest: float
    entropy_before: float
    entropy_after: float
    histogram: tuple[int, ...]

    @property
    def decibels(self) -> float:
        """Signal to noise, dB; infinite without noise."""
        return -20 * math.log10(self.relative) if self.relative else math.inf


@dataclass(frozen=True, slots=True)
class MatrixStats:
    """One quantized matrix.

    Attributes:
        name: Module name.
        block: Index of its decoder block; ``None`` outside of them.
        kind: Its name within the block, or its own.
        rows: N.
        columns: K.
        bits: Per code.
        group_size: Input channels per scale; ``None`` is per output channel.
        code_bits: Entropy of the codes, bits per weight.
        scales: Of all its scales.
        error: ``None`` where the float matrix is not known.
    """

    name: str
    block: int | None
    kind: str
    rows: int
    columns: int
    bits: int
    group_size: int | None
    code_bits: float
    scales: ScaleStats
    error: ErrorStats | None

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.rows * self.columns


@dataclass(frozen=True, slots=True)
class WeightStats:
    """Of a quantized checkpoint.

    Attributes:
        matrices: In the model's order.
        changed: Names of float tensors (norms, biases) that are not those of the float model, beyond float16's or
            bfloat16's rounding.
    """

    matrices: tuple[MatrixStats, ...]
    changed: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """A plain dict."""
        return asdict(self)
