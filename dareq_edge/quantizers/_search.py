"""The DARE-Q search as plain numpy, one segment at a time: the definition that the fast kernels must agree with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-8
Floats: TypeAlias = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Search:
    """One search problem.

    Attributes:
        density: Published code's float32 density histogram, else the paper's float64 probabilities.
        q_max: Largest positive code, 2^(bits-1) - 1; the smallest is -q_max - 1.
        bins: Histogram bins B.
        lambda_weight: Weight of the mean squared error.
        lambda_entropy: Weight of the entropy.
        candidates: Scales tried, C.
    """

    density: bool
    q_max: int
    bins: int
    lambda_weight: float
    lambda_entropy: float
    candidates: int

    @property
    def dtype(self) -> Any:
        """Precision of scales and residuals."""
        return np.float32 if self.density else np.float64


def scale_grid(absmax: NDArray[np.float32], search: Search) -> Floats:
    """Candidate scales.

    Args:
        absmax: float32 [R], largest magnitude of each segment.
        search: The problem.

    Returns:
        ``search.dtype`` [R, C], rising from absmax / q_max to absmax.
    """
    top = absmax.astype(search.dtype)[:, None]
    start: Floats = top / search.dtype(search.q_max)
    if search.candidates == 1:
        return start
    index = np.arange(search.candidates, dtype=search.dtype)
    step = (top - start) / search.dtype(search.candidates - 1)
    grid: Floats = index * step + start
    grid[:, -1:] = top
    return grid


def residual(w: NDArray[np.float32], scale: np.float32 | np.float64, search: Search) -> Floats:
    """Residual w - Q(w; s) in ``search.dtype``, [L]."""
    x = w.astype(search.dtype) / scale
    q = np.rint(x) if search.density else np.floor(x + 0.5)
    return w - np.clip(q, -search.q_max - 1, search.q_max).astype(search.dtype) * scale


def entropy(r: Floats, search: Search) -> float:
    """Entropy of the residual's histogram, nats."""
    try:
        counts, edges = np.histogram(r, bins=search.bins)
    except ValueError:  # a range of fewer floating-point steps than bins: a point
        counts, edges = np.histogram(np.zeros(r.size, r.dtype), bins=search.bins)
    if search.density:
        h = counts / np.diff(edges).astype(float) / counts.sum() + EPSILON
        return float(-np.sum(h * np.log(h)))
    p = counts / counts.sum()
    return float(-np.sum(p * np.log(p + EPSILON)))


def best(w: NDArray[np.float32], scales: Floats, search: Search) -> int:
    """Index of the first candidate with the least loss.

    Args:
        w: float32 [L], not all zero.
        scales: ``search.dtype`` [C].
        search: The problem.
    """
    losses = []
    for scale in scales:
        r = residual(w, scale, search)
        losses.append(search.lambda_entropy * entropy(r, search) + search.lambda_weight * float(np.mean(r**2)))
    return int(np.argmin(losses))
