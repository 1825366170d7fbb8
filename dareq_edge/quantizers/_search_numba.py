"""The DARE-Q search as a compiled parallel kernel for the CPU; it makes the choices of ``_search.best``.

Why the choices are the same: residuals, histogram edges, bin indices (numpy's corrections included) and counts are
computed with the operations of numpy, in the same precision and order, so counts are equal. Losses then differ by a
few roundings only (order of summation, last bit of a logarithm). A segment whose best two losses are closer than a
bound on those roundings is searched again by ``_search.best`` itself.

Why it is fast: no allocation per row, loops that LLVM vectorises (unsigned indices, because numba tests signed ones
for wrap-around), logarithms of counts from a table, and candidates dropped early: the range and squared error of a
part of the residual bound the loss from below (``_entropy_floor``), and a candidate whose bound is above the best
loss so far cannot win.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from dareq_edge.quantizers._grid import TINY
from dareq_edge.quantizers._numba import MAGIC, compiled, threads_of_torch
from dareq_edge.quantizers._search import EPSILON, Floats, Search, best, scale_grid

_PART = 128  # residuals between two looks at the bound
_SLACK = 1.0 - 1e-5  # bounds are lowered by this, far above any rounding of theirs
_L2_ROUNDING_32 = 4e-6  # numpy's float32 mean: about 35 sequential roundings of 6e-8
_NUMPY_SUM = 128  # longer sums are split by numpy
_ROUNDING_64 = 1e-13  # the same in float64, and logarithms that differ in the last bit


def choose(segments: torch.Tensor, search: Search) -> torch.Tensor:
    """Best scale per segment.

    Args:
        segments: float32 [R, L], contiguous, on the CPU.
        search: The problem.

    Returns:
        float32 (density) or float64 (probability) [R]; 0 for all-zero segments.
    """
    w = segments.numpy()
    absmax = np.maximum(w.max(axis=1), -w.min(axis=1))
    dead = absmax / np.float32(search.q_max) < TINY
    scales = scale_grid(np.where(dead, np.float32(1), absmax), search)
    choice = np.empty(len(w), dtype=np.int64)
    counts = np.arange(w.shape[1] + 1) / w.shape[1]
    table = counts * np.log(counts + EPSILON)
    with threads_of_torch() as threads:
        blocks = min(len(w), threads * 4)
        _search_all(w, scales, search.bins, search.lambda_weight, search.lambda_entropy, table, blocks, choice)
    for row in np.flatnonzero(choice < 0):
        choice[row] = 0 if dead[row] else best(w[row], scales[row], search)
    chosen = np.take_along_axis(scales, choice[:, None], axis=1)[:, 0]
    return torch.from_numpy(np.where(dead, chosen.dtype.type(0), chosen))


@compiled(parallel=True)
def _search_all(
    w: NDArray[np.float32],
    scales: Floats,
    bins: int,
    lambda_weight: float,
    lambda_entropy: float,
    table: NDArray[np.float64],
    blocks: int,
    choice: NDArray[np.int64],
) -> None:
    """Fill ``choice`` [R] with the index of the best candidate, or -1 where rounding could decide."""
    rows, length = w.shape
    for block in numba.prange(blocks):
        r = np.empty(length, dtype=scales.dtype)
        bounds = np.empty(2, dtype=scales.dtype)
        index = np.empty(length, dtype=np.uint16)
        hist = np.empty((4, bins), dtype=np.int32)
        terms = np.empty(bins, dtype=np.float64)
        losses = np.empty(scales.shape[1], dtype=np.float64)
        doubt = np.empty(scales.shape[1], dtype=np.float64)
        for row in range(block * rows // blocks, (block + 1) * rows // blocks):
            known = _search_row(
                w[row],
                scales[row],
                lambda_weight,
                lambda_entropy,
                table,
                r,
                bounds,
                index,
                hist,
                terms,
                losses,
                doubt,
            )
            choice[row] = _decide(scales[row], losses, doubt) if known else -1


@compiled()
def _search_row(
    w: NDArray[np.float32],
    scales: Floats,
    lambda_weight: float,
    lambda_entropy: float,
    table: NDArray[np.float64],
    r: Floats,
    bounds: Floats,
    index: NDArray[np.uint16],
    hist: NDArray[np.int32],
    terms: NDArray[np.float64],
    losses: NDArray[np.float64],
    doubt: NDArray[np.float64],
) -> bool:
    """Losses [C] of one row's candidates and the rounding in doubt of each; infinity for candidates that cannot win.

    Returns:
        False if a histogram was degenerate and only numpy can tell.
    """
    density, bins, least = r.itemsize == 4, hist.shape[1], np.inf
    for c in range(len(scales)):
        losses[c], doubt[c] = np.inf, 0.0
        if c > 0 and scales[c] == scales[c - 1]:
            continue
        low, high, l2 = _residual(w, scales[c], r, bounds, bins, lambda_weight, lambda_entropy, least)
        if low > high:
            continue
        entropy = 0.0
        if lambda_entropy > 0:
            if low == high:  # numpy's rule for a range of zero width
                low, high = low - r.dtype.type(0.5), high + r.dtype.type(0.5)
            step = (high - low) / r.dtype.type(bins)
            if not _count(r, low, high, step, bins, index, hist):
                return False
            entropy = _density_entropy(r, low, high, step, hist, terms) if density else _entropy(hist, terms, table)
        losses[c] = lambda_entropy * entropy + lambda_weight * l2
        doubt[c] = lambda_weight * l2 * (_L2_ROUNDING_32 if density else _ROUNDING_64)
        if density or bins > _NUMPY_SUM:
            doubt[c] += lambda_entropy * _ROUNDING_64 * (abs(entropy) + bins)
        least = min(least, losses[c] + doubt[c])
    return True


@compiled()
def _decide(scales: Floats, losses: NDArray[np.float64], doubt: NDArray[np.float64]) -> int:
    """Index of the first least loss, or -1 if another one is so close that rounding could decide."""
    winner = np.argmin(losses)
    for c in range(len(losses)):
        margin = doubt[c] + doubt[winner]
        if c != winner and margin > 0 and losses[c] - losses[winner] <= margin:
            return -1
    return int(winner)


@compiled()
def _residual(
    w: NDArray[np.float32],
    scale: Any,
    r: Floats,
    bounds: Floats,
    bins: int,
    lambda_weight: float,
    lambda_entropy: float,
    least: float,
) -> tuple[Any, Any, float]:
    """Fill ``r`` [L] with the residual, part by part, and stop where the candidate is seen to lose.

    Returns:
        Least and greatest residual and mean square; the least above the greatest for a candidate that cannot win.
    """
    length, total = len(w), 0.0
    low: Any = np.int64(2**63 - 1)
    high: Any = np.int64(-(2**63 - 1))
    part = _PART if r.itemsize == 4 else length  # probabilities have no useful bound
    for start in range(0, length, part):
        stop = min(start + part, length)
        _round(w, scale, r, start, stop)
        part_low, part_high = _range(r, start, stop)
        low, high = min(low, part_low), max(high, part_high)
        total += _squares(r, start, stop)
        if least < np.inf:
            floor = lambda_weight * total / length * _SLACK
            if lambda_entropy > 0:
                _from_keys(low, high, bounds)
                floor += lambda_entropy * _entropy_floor(r, bounds[1] - bounds[0], scale, bins)
            if floor > least:
                return r.dtype.type(1), r.dtype.type(0), 0.0
    _from_keys(low, high, bounds)
    return bounds[0], bounds[1], total / length


@compiled()
def _entropy_floor(r: Floats, span: float, scale: float, bins: int) -> float:
    """A lower bound of the entropy of any residual that spans at least ``span``.

    Probabilities: -sum p ln(p + e) >= -ln(1 + e). Densities h_j = m_j / d_j + e with widths d_j >= d and sum m = 1:
    all h_j <= t = 1/d + e, hence H = -sum h ln h >= -ln(max(t, 1 + e)) * sum h >= -ln(max(t, 1 + e)) * (1/d + B e).
    Edges are float32 numbers no larger than ``scale``, which makes widths uncertain by the fraction ``loss``.
    """
    if r.itemsize == 8:
        return -2 * EPSILON
    loss = 8 * 2.0**-24 * scale * bins / span if span > 0 else 1.0
    if loss > 0.5:
        return -np.inf
    density = bins / (span * (1 - loss))
    floor = -np.log(max(density, 1.0) + EPSILON) * (density + bins * EPSILON)
    return float(floor / _SLACK)


@compiled()
def _round(w: NDArray[np.float32], scale: Any, r: Floats, start: int, stop: int) -> None:
    """Residuals of one part. No clipping: scales of at least absmax / q_max never round beyond q_max."""
    if r.itemsize == 4:
        for i in range(np.uint64(start), np.uint64(stop)):
            r[i] = w[i] - ((w[i] / scale + MAGIC) - MAGIC) * scale
    else:
        for i in range(np.uint64(start), np.uint64(stop)):
            x = np.float64(w[i])
            r[i] = x - np.floor(x / scale + 0.5) * scale


@compiled()
def _range(r: Floats, start: int, stop: int) -> tuple[Any, Any]:
    """Least and greatest of finite values, as order-preserving integers: LLVM vectorises those, and not floats."""
    low, high = np.int64(2**63 - 1), np.int64(-(2**63 - 1))
    if r.itemsize == 4:
        narrow = r.view(np.int32)
        for i in range(np.uint64(start), np.uint64(stop)):
            key = np.int64(narrow[i]) ^ ((np.int64(narrow[i]) >> 63) & np.int64(0x7FFFFFFF))
            low, high = min(low, key), max(high, key)
    else:
        wide = r.view(np.int64)
        for i in range(np.uint64(start), np.uint64(stop)):
            key = wide[i] ^ ((wide[i] >> 63) & np.int64(0x7FFFFFFFFFFFFFFF))
            low, high = min(low, key), max(high, key)
    return low, high


@compiled()
def _from_keys(low: Any, high: Any, bounds: Floats) -> None:
    """Write the floats that ``_range``'s integers stand for into ``bounds`` [2]."""
    for i in range(2):
        key = high if i else low
        if bounds.itemsize == 4:
            bounds.view(np.int32)[i] = key ^ ((key >> 63) & np.int64(0x7FFFFFFF))
        else:
            bounds.view(np.int64)[i] = key ^ ((key >> 63) & np.int64(0x7FFFFFFFFFFFFFFF))


@compiled(fastmath={"nnan", "nsz", "reassoc"})
def _squares(r: Floats, start: int, stop: int) -> float:
    """Sum of squares in float64; its order is free, see the module's docstring."""
    total = 0.0
    for i in range(np.uint64(start), np.uint64(stop)):
        total += np.float64(r[i]) * np.float64(r[i])
    return total


@compiled()
def _clear_bins(r: Floats, low: Any, high: Any, step: Any, bins: int, index: NDArray[np.uint16]) -> bool:
    """Bins without corrections; False if a residual is so close to an edge that rounding could decide.

    In bins, ``t`` is wrong by 3 roundings of ``bins``, numpy's guess by 5, an edge by 2 and one of max |edge| / step.
    With ``doubt`` above their sum, equal floors mean that the guess, the edges and exact arithmetic agree.
    """
    per_step, top = 1.0 / step, bins - 0.5
    doubt = 16 * 2.0**-53 * (bins + max(abs(low), abs(high)) / step)  # below 1, see the caller's ``narrow``
    differ = np.int32(0)
    for i in range(np.uint64(len(r))):
        t = (r[i] - low) * per_step
        j = np.int32(t - doubt)
        differ |= j ^ np.int32(min(t + doubt, top))
        index[i] = np.uint16(j)
    return bool(differ == 0)


@compiled()
def _numpy_bins(r: Floats, low: Any, step: Any, bins: int, index: NDArray[np.uint16]) -> None:
    """Bins as numpy corrects them: any first guess within one bin ends in the same bin, because edges decide."""
    one, last = r.dtype.type(1), r.dtype.type(bins - 1)
    per_step = one / step
    for i in range(len(r)):
        j = min(np.floor((r[i] - low) * per_step), last)
        j = j - one if r[i] < j * step + low else j
        j = j + one if (r[i] >= (j + one) * step + low) & (j < last) else j
        index[i] = np.uint16(np.int32(j))


@compiled()
def _count(
    r: Floats, low: Any, high: Any, step: Any, bins: int, index: NDArray[np.uint16], hist: NDArray[np.int32]
) -> bool:
    """Do numpy.histogram of ``r`` into ``hist[0]`` (numpy 2, ``lib/_histograms_impl.py``, equal bins).

    Returns:
        False where the bins are only a few floating-point steps wide.
    """
    spacing = 2.0**-23 if r.itemsize == 4 else 2.0**-52
    narrow = step < 16 * spacing * max(abs(low), abs(high))  # edges could collide
    if narrow or step < TINY:
        return False
    if r.itemsize == 4 or not _clear_bins(r, low, high, step, bins, index):
        _numpy_bins(r, low, step, bins, index)
    hist[:] = 0
    whole = len(r) - len(r) % 4
    for i in range(0, whole, 4):  # four histograms, so that equal neighbours do not wait for each other
        for copy in range(4):
            hist[copy, index[i + copy]] += 1
    for i in range(whole, len(r)):
        hist[0, index[i]] += 1
    for j in range(bins):
        hist[0, j] += hist[1, j] + hist[2, j] + hist[3, j]
    return True


@compiled()
def _density_entropy(
    r: Floats, low: Any, high: Any, step: Any, hist: NDArray[np.int32], terms: NDArray[np.float64]
) -> float:
    """H of densities, -sum h ln h with h = n / width / L + 1e-8."""
    bins = hist.shape[1]
    for j in range(bins):
        right = r.dtype.type(j + 1) * step + low if j + 1 < bins else high
        width = np.float64(right - (r.dtype.type(j) * step + low))
        h = hist[0, j] / width / len(r) + EPSILON
        terms[j] = h * np.log(h) if hist[0, j] else EPSILON * np.log(EPSILON)
    return -np.sum(terms)


@compiled()
def _entropy(hist: NDArray[np.int32], terms: NDArray[np.float64], table: NDArray[np.float64]) -> float:
    """H of probabilities from the table of p ln(p + 1e-8).

    Up to 128 bins it is summed as numpy sums, in eight running sums, and equals numpy's value to the bit: short
    segments often have candidates of equal entropy.
    """
    bins = hist.shape[1]
    full = bins - bins % 8
    for lane in range(min(full, 8)):
        total = 0.0
        for j in range(np.uint64(lane), np.uint64(full), np.uint64(8)):
            total += table[np.uint32(hist[0, j])]
        terms[lane] = total
    total = 0.0
    if full:
        total = ((terms[0] + terms[1]) + (terms[2] + terms[3])) + ((terms[4] + terms[5]) + (terms[6] + terms[7]))
    for j in range(full, bins):
        total += table[hist[0, j]]
    return -total
