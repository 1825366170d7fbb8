"""The search for scales as a compiled parallel kernel: what every candidate scale of every segment costs.

The inner loop runs over candidates, which makes it free of reductions, so LLVM vectorises it without reordering sums:
the choice does not depend on the number of threads, on the rows beside it, or on the width of the vector unit.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from dareq_edge.quantizers._numba import MAGIC, compiled, threads_of_torch

_PART = 128  # errors added in float32 before they go to a float64 total


def best(
    x: NDArray[np.float32],
    scales: NDArray[np.float32],
    q_max: int,
    *,
    importance: NDArray[np.float32] | None = None,
    squarings: int = 1,
    decibels_per_bit: float = 0.0,
) -> NDArray[np.int64]:
    """Index of the first candidate with the least error, or the least sum of error and entropy.

    Args:
        x: float32 [R, L], contiguous, magnitudes at most 1.
        scales: float32 [R, C] of either sign, in the same unit; 1 / scale must be finite.
        q_max: Largest positive code, 2^(bits-1) - 1; the smallest is -q_max - 1.
        importance: h, float32 [G, L], at most 1: row r of x is weighted by row r % G; ``None`` is 1 everywhere.
        squarings: The error is the sum of h |x - s q|^p, p = 2^squarings, from 1 to 3.
        decibels_per_bit: What a bit of entropy of the codes of a segment adds to 10 log10 of the error.

    Returns:
        int64 [R].
    """
    choice = np.empty(len(x), dtype=np.int64)
    h = np.ones((1, x.shape[1]), dtype=np.float32) if importance is None else importance
    low, high, rate = np.float32(-q_max - 1), np.float32(q_max), np.float64(decibels_per_bit)
    with threads_of_torch() as threads:
        _best_all(x, scales, h, low, high, squarings, rate, min(len(x), threads * 4), choice)
    return choice


@compiled(parallel=True)
def _best_all(
    x: NDArray[np.float32],
    scales: NDArray[np.float32],
    h: NDArray[np.float32],
    low: Any,
    high: Any,
    squarings: int,
    rate: Any,
    blocks: int,
    choice: NDArray[np.int64],
) -> None:
    """Fill ``choice`` [R]."""
    rows, count = scales.shape
    for block in numba.prange(blocks):
        inverse = np.empty(count, dtype=np.float32)
        part = np.empty(count, dtype=np.float32)
        total = np.empty(count, dtype=np.float64)
        hist = np.empty((count, np.int64(high - low) + 1), dtype=np.int32)
        n_log_n = _n_log_n(x.shape[1] if rate > 0 else 0)
        for row in range(block * rows // blocks, (block + 1) * rows // blocks):
            _errors(x[row], scales[row], h[row % len(h)], low, high, squarings, inverse, part, total)
            if rate > 0:
                _add_entropy(x[row], inverse, low, high, rate, n_log_n, hist, total)
            choice[row] = np.argmin(total)


@compiled()
def _errors(
    x: NDArray[np.float32],
    scales: NDArray[np.float32],
    h: NDArray[np.float32],
    low: Any,
    high: Any,
    squarings: int,
    inverse: NDArray[np.float32],
    part: NDArray[np.float32],
    total: NDArray[np.float64],
) -> None:
    """Fill ``total`` [C] with the error of x [L] on each candidate's grid; ``inverse`` [C] too; part is scratch."""
    length, count = np.uint64(len(x)), np.uint64(len(scales))
    for c in range(count):
        total[c] = 0.0
        inverse[c] = np.float32(1) / scales[c]
    for start in range(np.uint64(0), length, np.uint64(_PART)):
        part[:] = np.float32(0)
        for k in range(start, min(start + np.uint64(_PART), length)):
            for c in range(count):
                q = min(max(x[k] * inverse[c], low), high) + MAGIC - MAGIC
                r = x[k] - q * scales[c]
                e = r * r
                if squarings > 1:
                    e *= e
                if squarings > 2:
                    e *= e
                part[c] += h[k] * e
        for c in range(count):
            total[c] += part[c]


@compiled()
def _add_entropy(
    x: NDArray[np.float32],
    inverse: NDArray[np.float32],
    low: Any,
    high: Any,
    rate: Any,
    n_log_n: NDArray[np.float64],
    hist: NDArray[np.int32],
    total: NDArray[np.float64],
) -> None:
    """Turn errors ``total`` [C] into 10 log10 of them plus rate times the entropy in bits of x's codes."""
    hist[:] = 0
    for k in range(len(x)):
        for c in range(len(inverse)):
            q = min(max(x[k] * inverse[c], low), high) + MAGIC - MAGIC
            hist[c, np.int64(q - low)] += 1
    for c in range(len(inverse)):
        bits = n_log_n[len(x)]
        for n in hist[c]:
            bits -= n_log_n[n]
        total[c] = 10 * np.log10(total[c]) + rate * bits / len(x)


@compiled()
def _n_log_n(largest: int) -> NDArray[np.float64]:
    """Table of n log2 n for n = 0 … largest."""
    out = np.zeros(largest + 1)
    for n in range(2, largest + 1):
        out[n] = n * np.log2(np.float64(n))
    return out
