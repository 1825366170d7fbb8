"""What the closed form asks of rows, compiled for the CPU; the method is in ``_entquant_torch``."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from dareq_edge.quantizers._entquant_torch import CLOSE, LARGEST, STEPS
from dareq_edge.quantizers._grid import TINY
from dareq_edge.quantizers._numba import MAGIC, compiled, threads_of_torch

_PART = 256  # weights whose sums are added in float32
_SPLIT = np.float32(2.0**20 + 1)  # x * _SPLIT - (x * _SPLIT - x) keeps four significant bits of x


def mean_magnitudes(w: NDArray[np.float32]) -> NDArray[np.float64]:
    """mean|w| of every row: float32 [N, K], contiguous → float64 [N]."""
    found = np.empty(len(w))
    with threads_of_torch():
        _means(w, found)
    return found


def refine(w: NDArray[np.float32], start: NDArray[np.float64], pull: float, *, float8: bool) -> NDArray[np.float64]:
    """Solve every row's equation.

    Args:
        w: float32 [N, K], contiguous.
        start: Scales to begin with, float64 [N], 0 or at least TINY; rows with 0 stay 0.
        pull: lambda / 128 times the mean magnitude of the matrix's weights.
        float8: Whether codes lie on the E4M3 grid.

    Returns:
        float64 [N].
    """
    scales = np.empty_like(start)
    with threads_of_torch():
        _rows(w, start, pull, float8, scales)
    return scales


@compiled(parallel=True)
def _means(w: NDArray[np.float32], found: NDArray[np.float64]) -> None:
    for row in numba.prange(len(w)):
        found[row] = _magnitude(w[row]) / w.shape[1]


@compiled(fastmath={"nnan", "nsz", "reassoc"})
def _magnitude(w: NDArray[np.float32]) -> float:
    total = 0.0
    for i in range(np.uint64(len(w))):
        total += np.float64(abs(w[i]))
    return total


@compiled(parallel=True)
def _rows(
    w: NDArray[np.float32], start: NDArray[np.float64], pull: float, float8: bool, scales: NDArray[np.float64]
) -> None:
    for row in numba.prange(len(w)):
        scales[row] = _row(w[row], start[row], pull, float8)


@compiled()
def _row(w: NDArray[np.float32], scale: float, pull: float, float8: bool) -> float:
    """One row: multiplicative steps inside a bracket, so that it ends whatever the row is."""
    if scale <= 0.0:
        return 0.0
    low, high = 0.0, np.inf
    for _ in range(STEPS):
        error, live, edge = _sums(w, np.float32(scale), float8)
        ratio = (pull / scale * live + edge) / error if error > 0.0 else LARGEST**2
        if abs(ratio - 1.0) < CLOSE:
            break
        if ratio > 1.0:
            low = scale
        else:
            high = scale
        scale = max(scale * np.sqrt(min(max(ratio, LARGEST**-2), LARGEST**2)), TINY)
        if not low < scale < high:
            scale = max(np.sqrt(low * high), TINY)
    return float(scale)


@compiled()
def _sums(w: NDArray[np.float32], scale: np.float32, float8: bool) -> tuple[float, float, float]:
    """Error, live and edge as ``_entquant_torch`` has them: float64 of float32 parts."""
    sums = (0.0, 0.0, 0.0)
    inverse = np.float32(1) / scale
    for start in range(0, len(w), _PART):
        part = w[start : start + _PART]
        found = _float8_part(part, inverse) if float8 else _int8_part(part, inverse)
        sums = (sums[0] + np.float64(found[0]), sums[1] + np.float64(found[1]), sums[2] + np.float64(found[2]))
    return sums


# What follows rounds by adding and taking away; callees inherit reordering unless they refuse it.
@compiled(fastmath=False)
def _nearest(x: np.float32) -> np.float32:
    """Half to even, |x| < 2^22."""
    return (x + MAGIC) - MAGIC


@compiled(fastmath=False)
def _on_e4m3(x: np.float32) -> np.float32:
    """Units of 2^-9 rounded to the grid of E4M3, |x| < 2^100: steps of 1 below 16, then four bits."""
    wide = x * _SPLIT
    return wide - (wide - x) if abs(x) >= np.float32(8) else (x + MAGIC) - MAGIC


@compiled(fastmath={"nnan", "nsz", "reassoc"})
def _int8_part(w: NDArray[np.float32], inverse: np.float32) -> tuple[np.float32, np.float32, np.float32]:
    error, live, edge = np.float32(0), np.float32(0), np.float32(0)
    for i in range(np.uint64(len(w))):
        x = min(max(w[i] * inverse, np.float32(-512)), np.float32(512))
        q = _nearest(x)
        kept = min(max(q, np.float32(-128)), np.float32(127))
        clipped = kept != q
        error += np.float32(0) if clipped else abs(x - q)
        live += np.float32(0) if clipped or q == 0 else abs(x)
        edge += abs(kept) if clipped else np.float32(0)
    return error, live, edge


@compiled(fastmath={"nnan", "nsz", "reassoc"})
def _float8_part(w: NDArray[np.float32], inverse: np.float32) -> tuple[np.float32, np.float32, np.float32]:
    error, live = np.float32(0), np.float32(0)
    for i in range(np.uint64(len(w))):
        x = min(max(w[i] * inverse, np.float32(-(2**20))), np.float32(2**20))
        q = _on_e4m3(x)
        error += abs(x - q)
        live += np.float32(0) if q == 0 else abs(x)
    return error, live, np.float32(0)
