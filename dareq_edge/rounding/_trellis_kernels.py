"""Error feedback over columns, each rounded as a whole by the trellis of ``container.trellis``; compiled.

In a column every row is one step of the trellis, and the Viterbi algorithm finds the codes with the least sum of
error and bits over all of them; what is left of each row then goes to its columns to come, as in ``_kernels``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dareq_edge.container.trellis import STATES
from dareq_edge.quantizers._numba import compiled

_MOST = 62  # of an index: its neighbours' codes are still codes
_NEVER = np.float32(1e30)


def feedback(
    w: torch.Tensor,
    s: torch.Tensor,
    u: torch.Tensor,
    worth: torch.Tensor,
    lengths: torch.Tensor,
    states: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes with error feedback, columns in the order given.

    Args:
        w: Target, float32 [N, K]: rows as they are stored, one after the other.
        s: Scale of every row, float32 [N], positive.
        u: Upper triangular factor, float32 [K, K].
        worth: Bits that a squared error of 1 costs in a column with U[j, j] = 1, float32 [N].
        lengths: Bits of the indices -128 to 127, float32 [256].
        states: Of every column, w_0 the lowest bit, int8 [K]; those of the row after the last when done.

    Returns:
        Signed codes and indices, int8 [N, K] each.
    """
    x = w.T.contiguous().numpy()
    codes, indices = np.zeros(x.shape, dtype=np.int8), np.zeros(x.shape, dtype=np.int8)
    upper = np.ascontiguousarray(u.numpy())
    _feedback(x, s.numpy(), worth.numpy(), upper, lengths.numpy(), states.numpy(), codes, indices)
    return torch.from_numpy(codes).T.contiguous(), torch.from_numpy(indices).T.contiguous()


@compiled()
def _feedback(
    x: NDArray[np.float32],
    s: NDArray[np.float32],
    worth: NDArray[np.float32],
    u: NDArray[np.float32],
    lengths: NDArray[np.float32],
    states: NDArray[np.int8],
    codes: NDArray[np.int8],
    indices: NDArray[np.int8],
) -> None:
    n = x.shape[1]
    path = np.empty((n, STATES), dtype=np.int8)
    best = np.empty((n, STATES), dtype=np.int8)
    error = np.empty(n, dtype=np.float32)
    for j in range(len(x)):
        state = _forward(x[j], s, worth / (u[j, j] * u[j, j]), lengths, states[j], path, best)
        states[j] = state
        for i in range(n - 1, -1, -1):
            index, state = best[i, state], path[i, state]
            indices[j, i] = index
            codes[j, i] = _code(int(index), state & 1)
            error[i] = (x[j, i] - np.float32(codes[j, i]) * s[i]) / u[j, j]
        for later in range(j + 1, len(x)):
            factor = u[j, later]
            for i in range(n):
                x[later, i] -= factor * error[i]


@compiled()
def _forward(
    x: NDArray[np.float32],
    s: NDArray[np.float32],
    worth: NDArray[np.float32],
    lengths: NDArray[np.float32],
    start: Any,
    path: NDArray[np.int8],
    best: NDArray[np.int8],
) -> int:
    """The state the cheapest way ends in; fills the state before each step and the index taken there."""
    cost, new = np.full(STATES, _NEVER, dtype=np.float32), np.empty(STATES, dtype=np.float32)
    price, index = np.empty((2, 2), dtype=np.float32), np.empty((2, 2), dtype=np.int8)
    cost[start] = 0
    for i in range(len(x)):
        for grid in range(2):
            _cheapest(x[i], s[i], worth[i], grid, lengths, price[grid], index[grid])
        new[:] = _NEVER
        for state in range(STATES):
            if cost[state] < _NEVER:
                grid = state & 1
                for low in range(2):
                    total, following = cost[state] + price[grid, low], _next(state, low)
                    if total < new[following]:
                        new[following] = total
                        path[i, following] = state
                        best[i, following] = index[grid, low]
        cost[:] = new
    return int(np.argmin(cost))


@compiled()
def _cheapest(
    x: Any, s: Any, worth: Any, grid: int, lengths: NDArray[np.float32], price: NDArray[np.float32], index: Any
) -> None:
    """Of a grid's indices with an even and with an odd lowest bit, the best near x, and its error and bits."""
    price[:] = _NEVER
    middle = _nearest(x / s, grid)
    for candidate in range(middle - 1, middle + 2):
        left = x - np.float32(_code(candidate, grid)) * s
        total = left * left * worth + lengths[candidate + 128]
        low = candidate & 1
        if total < price[low]:
            price[low] = total
            index[low] = candidate


@compiled()
def _next(state: int, low: int) -> int:
    """The state after a row whose index has this lowest bit: what a_t and p_t add to the grids to come."""
    grid = state & 1
    return (state >> 1) ^ (grid << 1) ^ (grid << 4) ^ (low << 2)


@compiled()
def _nearest(ratio: Any, grid: int) -> int:
    """Index of the code nearest to a ratio of weight and step."""
    if grid == 0:
        index = int(np.rint(ratio / 2))
    elif abs(ratio) <= np.float32(0.5):
        index = 0
    else:
        index = int(np.rint((ratio + np.sign(ratio)) / 2))
    return min(max(index, -_MOST), _MOST)


@compiled()
def _code(index: int, grid: int) -> int:
    return 2 * index - grid * ((index > 0) - (index < 0))
