"""Error feedback that counts bits, compiled; strips of rows as in ``_kernels``."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from dareq_edge.quantizers._numba import compiled, threads_of_torch
from dareq_edge.rounding._kernels import WIDTH, from_strips, strips_of

_MOST = 127


def feedback(
    w: torch.Tensor, s: torch.Tensor, u: torch.Tensor, worth: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """Codes with error feedback, columns in the order given.

    Of the nearest code and its neighbour towards zero, each weight gets the one with less error and length together.

    Args:
        w: Target, float32 [N, K].
        s: Scale of every row, float32 [N], positive.
        u: Upper triangular factor, float32 [K, K].
        worth: Bits that a squared error of 1 costs in a column with U[j, j] = 1, float32 [N].
        lengths: Bits of the codes -128 to 127, float32 [256].

    Returns:
        Signed codes int8 [N, K], none below -127.
    """
    x, scales, worths = strips_of(w), strips_of(s[:, None], fill=1.0), strips_of(worth[:, None])
    q = np.zeros(x.shape, dtype=np.int8)
    with threads_of_torch():
        _all(x, scales, worths, np.ascontiguousarray(u.numpy()), lengths.numpy(), q)
    return from_strips(q, len(w))


@compiled(parallel=True)
def _all(
    x: NDArray[np.float32],
    s: NDArray[np.float32],
    worth: NDArray[np.float32],
    u: NDArray[np.float32],
    lengths: NDArray[np.float32],
    q: NDArray[np.int8],
) -> None:
    for strip in numba.prange(len(x)):
        _one(x[strip], s[strip, 0], worth[strip, 0], u, lengths, q[strip])


@compiled()
def _one(
    x: NDArray[np.float32],
    s: NDArray[np.float32],
    worth: NDArray[np.float32],
    u: NDArray[np.float32],
    lengths: NDArray[np.float32],
    q: NDArray[np.int8],
) -> None:
    error = np.empty(WIDTH, dtype=np.float32)
    for j in range(len(x)):
        weight = np.float32(1) / (u[j, j] * u[j, j])
        for b in range(WIDTH):
            code = _choose(x[j, b], s[b], weight * worth[b], lengths)
            q[j, b] = np.int8(code)
            error[b] = (x[j, b] - np.float32(code) * s[b]) / u[j, j]
        for i in range(j + 1, len(x)):
            factor = u[j, i]
            for b in range(WIDTH):
                x[i, b] -= factor * error[b]


@compiled()
def _choose(x: Any, s: Any, worth: Any, lengths: NDArray[np.float32]) -> int:
    near = int(min(max(np.rint(x / s), np.float32(-_MOST)), np.float32(_MOST)))
    if near == 0:
        return near
    inner = near - 1 if near > 0 else near + 1
    apart, further = x - np.float32(near) * s, x - np.float32(inner) * s
    if further * further * worth + lengths[inner + 128] < apart * apart * worth + lengths[near + 128]:
        return inner
    return near
