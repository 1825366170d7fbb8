r"""Codes of a trellis of two grids: each is stored as its index in the grid it comes from.

Signed codes v = code - 128 of one column, row after row, come from one of two grids: grid 0 holds the even numbers,
grid 1 zero and the odd ones, and index k means 2k in grid 0, 2k - sign(k) in grid 1. Which grid the next row uses
follows from the indices so far: with p_t the lowest bit of k_t and a_t the grid of row t,

    a_t = a_(t-2) xor a_(t-5) xor p_(t-3)

Ungerboeck's code of 32 states (1982, table I: parity checks 45 and 10). Indices are half as large as codes, which is
what makes them cheaper; whoever chose the codes (``rounding.trellis``) took care that they follow the rule. A state
is five bits w_0 … w_4: the grid of this row and of the next four, as far as what came before decides them.

    offset  bytes          content
    0       4              K, bytes per row; divides the frame's length
    4       1              1: indices are coded as "zstd", 2: as "pairs"
    5       5·ceil(K/8)    w_0 … w_4 of every column at the first row, lowest bit first
    …       …              indices + 128, coded so

The rule is linear over the field of two elements, so that no row has to wait for the one before: multiplied by
(1 + D^2 + D^5)^15 it reads a_t = a_(t-32) xor a_(t-80) xor bits that are known from the start, 32 rows at once.
"""

from __future__ import annotations

from struct import Struct

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container import pairs
from dareq_edge.container.workspace import Workspace
from dareq_edge.container.zstd import DamagedError, huffman, unzstd

STATES = 32
_BITS = 5  # of a state
_NEAR, _FAR, _INPUT = 2, 5, 3  # rows back: a's two terms and p's
_STRIDE = 16  # a power of two: rows at once are _NEAR times as many
_HEAD = Struct("<IB")
_ZERO = 128
_BLOCK = 1 << 17  # codes at a time: their scratch stays in the cache
_LOOK = 64  # rows that tell most frames of other codes from those of a trellis
_ZSTD, _PAIRS = 1, 2


def encode(codes: NDArray[np.uint8], row: int) -> bytes | None:
    """Code a frame.

    Args:
        codes: uint8 [n], 128 being zero.
        row: K.

    Returns:
        The payload, or ``None`` if some column does not follow the rule from any start.
    """
    if len(codes) % row:
        return None
    signed = (codes ^ np.uint8(_ZERO)).view(np.int8).reshape(-1, row)
    if _starts(signed[:_LOOK]) is None or (state := _starts(signed)) is None:
        return None
    k = _indices(signed).reshape(-1).view(np.uint8) ^ np.uint8(_ZERO)
    paired = pairs.encode(k)
    coding, body = (_ZSTD, huffman(k)) if paired is None else (_PAIRS, paired)
    return _HEAD.pack(row, coding) + np.packbits(state, axis=1, bitorder="little").tobytes() + body


def decode(payload: memoryview, out: NDArray[np.uint8], work: Workspace) -> None:
    """Decode a frame into ``out`` [n].

    Raises:
        DamagedError: The payload is not of this form, or holds another number of codes.
    """
    if len(payload) < _HEAD.size:
        raise DamagedError("a payload of a trellis has no head")
    row, coding = _HEAD.unpack_from(payload)
    if row == 0 or len(out) % row or coding not in (_ZSTD, _PAIRS):
        raise DamagedError(f"a payload of a trellis claims rows of {row} and coding {coding}")
    width = -(-row // 8)
    body = payload[_HEAD.size + _BITS * width :]
    if coding == _PAIRS:
        pairs.decode(body, out, work)
    else:
        unzstd(body, out, work.zstd)
    state = np.frombuffer(payload, np.uint8, _BITS * width, _HEAD.size).reshape(_BITS, width)
    matrix = out.reshape(-1, row)
    blocks = [slice(top, top + max(1, _BLOCK // row)) for top in range(0, len(matrix), max(1, _BLOCK // row))]
    low = np.empty((len(matrix), width), np.uint8)
    for block in blocks:
        low[block] = np.packbits(matrix[block] & 1, axis=1, bitorder="little")
    grid = _grids(low, state)
    for block in blocks:
        _codes(matrix[block], grid[block])


def _codes(k: NDArray[np.uint8], grid: NDArray[np.uint8]) -> None:
    """Indices + 128 become codes + 128 in place, uint8 [R, K]; grids are packed, [R, ceil(K/8)]."""
    odd = np.unpackbits(grid, axis=1, count=k.shape[1], bitorder="little")
    k ^= np.uint8(_ZERO)
    signed = k.view(np.int8)
    sign = signed >> 7
    sign |= (signed != 0).view(np.int8)
    np.negative(odd, out=odd)  # all bits of what is in grid 1
    sign &= odd.view(np.int8)
    signed += signed
    signed -= sign
    k ^= np.uint8(_ZERO)


def _grids(low: NDArray[np.uint8], state: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The grid of every row, for columns side by side or packed eight to a byte.

    Args:
        low: Lowest bits of the indices, [R, C].
        state: w_0 … w_4, [5, C].

    Returns:
        uint8 [R, C].
    """
    out = np.zeros_like(low)
    out[_INPUT:] = low[:-_INPUT]
    out[:_BITS] ^= state[: len(out)]
    lag = 1
    while lag < _STRIDE:  # times 1 + D^2 + D^5, then again with twice the delay
        before, out = out, out.copy()
        for delay in (_NEAR * lag, _FAR * lag):
            out[delay:] ^= before[:-delay]
        lag *= 2
    near, far = _NEAR * lag, _FAR * lag
    for top in range(near, len(out), near):
        end = min(top + near, len(out))
        out[top:end] ^= out[top - near : end - near]
        first = max(top, far)
        if first < end:
            out[first:end] ^= out[first - far : end - far]
    return out


def _after(low: NDArray[np.uint8], grid: NDArray[np.uint8], state: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The state after some rows, [5, C], from what ``_grids`` was given and gave."""
    found, rows = np.zeros_like(state), len(low)
    for i in range(_BITS):
        if rows + i < _BITS:
            found[i] ^= state[rows + i]
        for terms, delay in ((grid, _NEAR), (grid, _FAR), (low, _INPUT)):
            if 0 <= rows + i - delay < rows:
                found[i] ^= terms[rows + i - delay]
    return found


def _indices(signed: NDArray[np.int8]) -> NDArray[np.int8]:
    """K of every code, int8 [R, K]: v / 2 of even ones, (v + sign(v)) / 2 of odd ones."""
    up = (signed & 1) & ~(signed >> 7)  # odd and positive
    found: NDArray[np.int8] = (signed >> 1) + up  # shifting rounds down: (v - 1) / 2 of odd negative ones
    return found


def _starts(signed: NDArray[np.int8]) -> NDArray[np.uint8] | None:
    """A state of every column from which its codes follow the rule, uint8 [5, K]; ``None`` if some column has none.

    A code that is not zero tells its own grid. What that differs by from the grid of a column that starts at state 0
    is what the start alone makes of the grids, of which there are 32.
    """
    low = (_indices(signed) & 1).view(np.uint8)
    differs = _grids(low, np.zeros((_BITS, signed.shape[1]), np.uint8)) ^ (signed & 1).view(np.uint8)
    states = (np.arange(STATES) >> np.arange(_BITS)[:, None] & 1).astype(np.uint8)
    responses = _grids(np.zeros((len(signed), STATES), np.uint8), states)
    told = signed != 0
    chosen = np.full(signed.shape[1], -1)
    for rows in (min(_LOOK, len(signed)), len(signed)):  # a guess for all columns, then all rows where it was wrong
        for state in range(STATES):
            open_ = np.flatnonzero(chosen < 0)
            wrong = (differs[:rows, open_] ^ responses[:rows, state, None]) & told[:rows, open_]
            chosen[open_[~wrong.any(axis=0)]] = state
            if (chosen >= 0).all():
                break
        chosen[((differs ^ responses[:, chosen]) & told).any(axis=0)] = -1
        if (chosen >= 0).all():
            found: NDArray[np.uint8] = states[:, chosen]
            return found
    return None


def states_after(signed: NDArray[np.int8]) -> NDArray[np.uint8]:
    """w_0 … w_4 of the row that follows, for columns that start at state 0: int8 [R, K] → uint8 [5, K]."""
    zeros = np.zeros((_BITS, signed.shape[1]), np.uint8)
    low = (_indices(signed) & 1).view(np.uint8)
    return _after(low, _grids(low, zeros), zeros)
