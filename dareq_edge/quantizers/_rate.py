"""Rate: the empirical entropy of codes, and the lambda at which something has a wanted rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

LEAST, MOST = 2.0**-6, 2.0**16
"""The lambdas that are searched: from what 8-bit codes can hold to almost no code but 0."""

_EVALUATIONS = 24


def entropy_bits(codes: NDArray[np.uint8]) -> float:
    """-sum p log2 p of the codes, bits per weight: uint8 of any shape."""
    counts = np.bincount(codes.ravel(), minlength=256)
    p = counts[counts > 0] / codes.size
    return float(-(p * np.log2(p)).sum()) + 0.0


def solve(bits: Callable[[float], float], wanted: float, tolerance: float) -> tuple[float, float]:
    """The lambda with a wanted rate: bisection by log lambda; two of three steps assume half a bit for each doubling.

    Args:
        bits: Rate at a lambda, about falling.
        wanted: Rate.
        tolerance: How near is near enough.

    Returns:
        lambda and its rate: the nearest that was seen, if none is near enough.
    """
    low, high = math.log2(LEAST), math.log2(MOST)
    at = min(max(2 * (4.873 - wanted), low), high)  # the rate of Gaussian weights
    best = (math.inf, 0.0, 0.0)
    for count in range(_EVALUATIONS):
        found = bits(2.0**at)
        best = min(best, (abs(found - wanted), 2.0**at, found))
        if best[0] <= tolerance or high - low < 1e-6:
            break
        if found > wanted:
            low = at
        else:
            high = at
        at += 2 * (found - wanted)
        if count % 3 == 2 or not low < at < high:
            at = (low + high) / 2
    return best[1], best[2]
