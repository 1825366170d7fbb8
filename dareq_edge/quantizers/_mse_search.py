"""The search of ``mse`` as a compiled parallel kernel: the squared error of every candidate scale of every segment.

The inner loop runs over candidates, which makes it free of reductions, so LLVM vectorises it without reordering sums:
the choice does not depend on the number of threads, on the rows beside it, or on the width of the vector unit.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from dareq_edge.quantizers._numba import MAGIC, compiled, threads_of_torch

_PART = 128  # squares added in float32 before they go to a float64 total


def best(x: NDArray[np.float32], scales: NDArray[np.float32], q_max: int) -> NDArray[np.int64]:
    """Index of the first candidate with the least squared error.

    Args:
        x: float32 [R, L], contiguous, magnitudes at most 1.
        scales: float32 [R, C] of either sign, in the same unit; 1 / scale must be finite.
        q_max: Largest positive code, 2^(bits-1) - 1; the smallest is -q_max - 1.

    Returns:
        int64 [R].
    """
    choice = np.empty(len(x), dtype=np.int64)
    with threads_of_torch() as threads:
        _best_all(x, scales, np.float32(-q_max - 1), np.float32(q_max), min(len(x), threads * 4), choice)
    return choice


@compiled(parallel=True)
def _best_all(
    x: NDArray[np.float32], scales: NDArray[np.float32], low: Any, high: Any, blocks: int, choice: NDArray[np.int64]
) -> None:
    """Fill ``choice`` [R]."""
    rows, count = scales.shape
    for block in numba.prange(blocks):
        inverse = np.empty(count, dtype=np.float32)
        part = np.empty(count, dtype=np.float32)
        total = np.empty(count, dtype=np.float64)
        for row in range(block * rows // blocks, (block + 1) * rows // blocks):
            _squared_errors(x[row], scales[row], low, high, inverse, part, total)
            choice[row] = np.argmin(total)


@compiled()
def _squared_errors(
    x: NDArray[np.float32],
    scales: NDArray[np.float32],
    low: Any,
    high: Any,
    inverse: NDArray[np.float32],
    part: NDArray[np.float32],
    total: NDArray[np.float64],
) -> None:
    """Fill ``total`` [C] with the squared error of x [L] on each candidate's grid; the rest is scratch [C]."""
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
                part[c] += r * r
        for c in range(count):
            total[c] += part[c]
