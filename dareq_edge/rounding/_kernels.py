"""Rounding column after column, compiled: a few rows at a time whose remaining columns stay in the cache.

Rows lie side by side, ``WIDTH`` of them, so that the inner loops have a fixed length and no reductions: results do
not depend on the number of threads or on which rows are done together.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from dareq_edge.quantizers import _grid
from dareq_edge.quantizers._numba import compiled, threads_of_torch

_TINY = np.float32(_grid.TINY)
WIDTH = 16  # float32 that one AVX-512 register holds; two of NEON's or AVX2's are no slower


def feedback(w: torch.Tensor, s: torch.Tensor, u: torch.Tensor, zero: int) -> torch.Tensor:
    """Codes with error feedback, columns in the order given.

    Args:
        w: Target, float32 [N, K].
        s: Scale of every weight, float32 [N, K] or a view of that shape.
        u: Upper triangular factor, float32 [K, K].
        zero: 2^(bits-1).

    Returns:
        Signed codes int8 [N, K].
    """
    x, scale, q = strips_of(w), strips_of(s, fill=1.0), np.zeros(_shape(w), dtype=np.int8)
    with threads_of_torch():
        _feedback_all(x, scale, np.ascontiguousarray(u.numpy()), np.float32(zero), q)
    return from_strips(q, len(w))


def sweep(r: torch.Tensor, q: torch.Tensor, s: torch.Tensor, h: torch.Tensor, zero: int) -> torch.Tensor:
    """One round of coordinate descent over all columns.

    Args:
        r: R = D H, float32 [N, K].
        q: Signed codes int8 [N, K].
        s: Scale of every weight, float32 [N, K] or a view of that shape.
        h: H, float32 [K, K].
        zero: 2^(bits-1).

    Returns:
        Codes after it, int8 [N, K].
    """
    x, scale, codes = strips_of(r), strips_of(s, fill=1.0), strips_of(q)
    with threads_of_torch():
        _sweep_all(x, codes, scale, np.ascontiguousarray(h.numpy()), np.float32(zero))
    return from_strips(codes, len(q))


def _shape(w: torch.Tensor) -> tuple[int, int, int]:
    return -(-len(w) // WIDTH), w.shape[1], WIDTH


def strips_of(w: torch.Tensor, fill: float = 0.0) -> NDArray[Any]:
    """[N, K] → contiguous [ceil(N / WIDTH), K, WIDTH], rows that do not exist filled."""
    strips, k, width = _shape(w)
    padded = torch.full((strips * width, k), fill, dtype=w.dtype)
    padded[: len(w)] = w
    return padded.view(strips, width, k).transpose(1, 2).contiguous().numpy()


def from_strips(x: NDArray[Any], n: int) -> torch.Tensor:
    """Back from there to [N, K]."""
    return torch.from_numpy(x).transpose(1, 2).reshape(-1, x.shape[1])[:n].contiguous()


@compiled(parallel=True)
def _feedback_all(
    x: NDArray[np.float32], s: NDArray[np.float32], u: NDArray[np.float32], zero: Any, q: NDArray[np.int8]
) -> None:
    for strip in numba.prange(len(x)):
        _feedback(x[strip], s[strip], u, zero, q[strip])


@compiled()
def _feedback(
    x: NDArray[np.float32], s: NDArray[np.float32], u: NDArray[np.float32], zero: Any, q: NDArray[np.int8]
) -> None:
    error = np.empty(WIDTH, dtype=np.float32)
    for j in range(len(x)):
        for b in range(WIDTH):
            code = min(max(np.rint(x[j, b] / s[j, b]), -zero), zero - np.float32(1))
            q[j, b] = np.int8(code)
            error[b] = (x[j, b] - code * s[j, b]) / u[j, j]
        for i in range(j + 1, len(x)):
            factor = u[j, i]
            for b in range(WIDTH):
                x[i, b] -= factor * error[b]


@compiled(parallel=True)
def _sweep_all(
    r: NDArray[np.float32], q: NDArray[np.int8], s: NDArray[np.float32], h: NDArray[np.float32], zero: Any
) -> None:
    for strip in numba.prange(len(r)):
        _sweep(r[strip], q[strip], s[strip], h, zero)


@compiled()
def _sweep(
    r: NDArray[np.float32], q: NDArray[np.int8], s: NDArray[np.float32], h: NDArray[np.float32], zero: Any
) -> None:
    change = np.empty(WIDTH, dtype=np.float32)
    for j in range(len(r)):
        curvature, moved = max(h[j, j], _TINY), False  # no input at all: R is 0 there, and the code stays
        for b in range(WIDTH):
            code = np.float32(q[j, b])
            best = min(max(np.rint(code + r[j, b] / (s[j, b] * curvature)), -zero), zero - np.float32(1))
            change[b] = (code - best) * s[j, b]
            moved |= best != code
            q[j, b] = np.int8(best)
        if moved:
            for i in range(len(r)):
                factor = h[j, i]
                for b in range(WIDTH):
                    r[i, b] += factor * change[b]
