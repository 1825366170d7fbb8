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
from dareq_edge.quantizers._numba import MAGIC, compiled

_MOST = 62  # of an index: its neighbours' codes are still codes
_COLUMNS = 32  # whose errors are in the cache when the columns after them are brought up to date
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
    ways = np.empty((n, STATES), dtype=np.uint8)
    best = np.empty((n, 4), dtype=np.int8)
    errors = np.empty((_COLUMNS, n), dtype=np.float32)
    for start in range(0, len(x), _COLUMNS):
        stop = min(start + _COLUMNS, len(x))
        for j in range(start, stop):
            state = _forward(x[j], s, worth / (u[j, j] * u[j, j]), lengths, states[j], ways, best)
            states[j] = state
            for i in range(n - 1, -1, -1):
                low = ways[i, state]
                state = _before(state, low)
                grid = state & 1
                indices[j, i] = best[i, 2 * grid + low]
                codes[j, i] = _code(int(indices[j, i]), grid)
                errors[j - start, i] = (x[j, i] - np.float32(codes[j, i]) * s[i]) / u[j, j]
            for later in range(j + 1, stop):
                _subtract(x[later], errors[j - start : j - start + 1], u[j : j + 1, later])
        for later in range(stop, len(x)):
            _subtract(x[later], errors, u[start:stop, later])


@compiled()
def _subtract(x: NDArray[np.float32], errors: NDArray[np.float32], factors: NDArray[np.float32]) -> None:
    """What rows' errors in some columns leave another column to make up for."""
    for j in range(len(factors)):
        factor = factors[j]
        for i in range(len(x)):
            x[i] -= factor * errors[j, i]


@compiled()
def _forward(
    x: NDArray[np.float32],
    s: NDArray[np.float32],
    worth: NDArray[np.float32],
    lengths: NDArray[np.float32],
    start: Any,
    ways: NDArray[np.uint8],
    best: NDArray[np.int8],
) -> int:
    """The state the cheapest way ends in; fills the lowest bit that leads to each state, and each row's indices.

    A state of the lower half follows on two states of grid 0, one of the upper half on two of grid 1: those whose
    number ``_before`` has for both lowest bits. So costs lie by grid, and halves are filled in one sweep.
    """
    half = STATES // 2
    cost = np.full((2, half), _NEVER, dtype=np.float32)
    new = np.empty(STATES, dtype=np.float32)
    price = np.empty(4, dtype=np.float32)
    cost[start & 1, start >> 1] = 0
    for i in range(len(x)):
        for grid in range(2):
            _cheapest(x[i], s[i], worth[i], grid, lengths, price[2 * grid :], best[i, 2 * grid :])
        for grid in range(2):
            even, odd = price[2 * grid], price[2 * grid + 1]
            for f in range(half):
                one = cost[grid, f ^ 2 * grid] + even
                two = cost[grid, f ^ 2 * grid ^ 4] + odd
                new[half * grid + f] = min(one, two)
                ways[i, half * grid + f] = two < one
        for f in range(half):
            cost[0, f] = new[2 * f]
            cost[1, f] = new[2 * f + 1]
    return int(np.argmin(new))


@compiled()
def _cheapest(
    x: Any, s: Any, worth: Any, grid: int, lengths: NDArray[np.float32], price: NDArray[np.float32], index: Any
) -> None:
    """Of a grid's indices with an even and with an odd lowest bit, the best near x, and its error and bits."""
    middle = _nearest(x / s, grid)
    here = _price(middle, x, s, worth, grid, lengths)
    below, above = _price(middle - 1, x, s, worth, grid, lengths), _price(middle + 1, x, s, worth, grid, lengths)
    low = middle & 1
    price[low], index[low] = here, middle
    price[1 - low], index[1 - low] = min(below, above), middle - 1 if below <= above else middle + 1


@compiled()
def _price(index: int, x: Any, s: Any, worth: Any, grid: int, lengths: NDArray[np.float32]) -> Any:
    left = x - np.float32(_code(index, grid)) * s
    return left * left * worth + lengths[index + 128]


@compiled()
def _before(state: int, low: int) -> int:
    """The state of the row before, whose index had this lowest bit: see ``container.trellis`` for the rule.

    Of state w the next is (w >> 1) ^ (a << 1) ^ (a << 4) ^ (p << 2), a = w & 1: only a reaches the highest bit.
    """
    grid = state >> 4
    return ((state & 15) ^ (grid << 1) ^ (low << 2)) << 1 | grid


@compiled()
def _nearest(ratio: Any, grid: int) -> int:
    """Index of the code nearest to a ratio of weight and step."""
    size = np.float32(0.5) * (abs(ratio) + np.float32(grid))
    whole = size + MAGIC - MAGIC
    if grid == 1 and abs(ratio) <= np.float32(0.5):
        whole = np.float32(0)
    whole = min(whole, np.float32(_MOST))
    return int(whole if ratio > 0 else -whole)


@compiled()
def _code(index: int, grid: int) -> int:
    return 2 * index - grid * ((index > 0) - (index < 0))
