r"""Codes of a trellis of two grids: each is stored as its index in the grid it comes from.

Signed codes v = code - 128 of one column, row after row, come from one of two grids: grid 0 holds the even numbers,
grid 1 zero and the odd ones, and index k means 2k in grid 0, 2k - sign(k) in grid 1. Which grid the next row uses
follows from the indices so far: with p_t the lowest bit of k_t and a_t the grid of row t,

    a_t = p_(t-1) xor a_(t-2)

the four states (a_t, a_(t-1)) of the dependent quantization of H.266 (section 8.7.3). Indices are half as large as
codes, which is what makes them cheaper; whoever chose the codes (``rounding.trellis``) took care that they follow the
rule. As the rule is linear in bits, grids are found from the lowest bits of all indices at once, by xor along each
column.

    offset  bytes          content
    0       4              K, bytes per row; divides the frame's length
    4       1              1: indices are coded as "zstd", 2: as "pairs"
    5       ceil(K/8)      grid of the first row of every column, a_0, lowest bit first
    …       ceil(K/8)      a_(-1) of every column
    …       …              indices + 128, coded so
"""

from __future__ import annotations

from struct import Struct

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container import pairs
from dareq_edge.container.workspace import Workspace
from dareq_edge.container.zstd import DamagedError, huffman, unzstd

_HEAD = Struct("<IB")
_ZERO = 128
_BLOCK = 1 << 15  # codes at a time: their scratch stays in the cache
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
    if _starts(signed[:_LOOK]) is None or (starts := _starts(signed)) is None:
        return None
    k = _indices(signed).reshape(-1).view(np.uint8) ^ np.uint8(_ZERO)
    paired = pairs.encode(k)
    coding, body = (_ZSTD, huffman(k)) if paired is None else (_PAIRS, paired)
    bits = [np.packbits(start, bitorder="little").tobytes() for start in starts]
    return b"".join([_HEAD.pack(row, coding), *bits, body])


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
    body = payload[_HEAD.size + 2 * width :]
    if coding == _PAIRS:
        pairs.decode(body, out, work)
    else:
        unzstd(body, out, work.zstd)
    starts = np.frombuffer(payload, np.uint8, 2 * width, _HEAD.size).reshape(2, width).copy()
    matrix = out.reshape(-1, row)
    step = max(1, _BLOCK // row) * 2
    for top in range(0, len(matrix), step):
        starts = _decode_rows(matrix[top : top + step], starts)


def _decode_rows(k: NDArray[np.uint8], starts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Indices + 128 become codes in place, uint8 [R, K], from packed starts [2, ceil(K/8)]; those of the next row."""
    low = np.packbits(k & 1, axis=1, bitorder="little")
    grid = _grids(low, starts)
    odd = np.unpackbits(grid[: len(k)], axis=1, count=k.shape[1], bitorder="little")
    k ^= np.uint8(_ZERO)
    signed = k.view(np.int8)
    sign = signed >> 7
    sign |= (signed != 0).view(np.int8)
    np.negative(odd, out=odd)  # all bits of what is in grid 1
    sign &= odd.view(np.int8)
    signed += signed
    signed -= sign
    k ^= np.uint8(_ZERO)
    return np.stack([grid[len(k)], grid[len(k) - 1]])


def _grids(low: NDArray[np.uint8], starts: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The grid of every row and of the one after the last, for columns side by side or packed eight to a byte.

    Args:
        low: Lowest bits of the indices, [R, C].
        starts: a_0 and a_(-1), [2, C].

    Returns:
        uint8 [R + 1, C].
    """
    out = np.empty((len(low) + 1, low.shape[1]), np.uint8)
    out[0], out[1:] = starts[0], low
    out[1] ^= starts[1]
    for phase in (out[0::2], out[1::2]):
        np.bitwise_xor.accumulate(phase, axis=0, out=phase)
    return out


def _indices(signed: NDArray[np.int8]) -> NDArray[np.int8]:
    """K of every code, int8 [R, K]: v / 2 of even ones, (v + sign(v)) / 2 of odd ones."""
    up = (signed & 1) & ~(signed >> 7)  # odd and positive
    found: NDArray[np.int8] = (signed >> 1) + up  # shifting rounds down: (v - 1) / 2 of odd negative ones
    return found


def _starts(signed: NDArray[np.int8]) -> NDArray[np.uint8] | None:
    """a_0 and a_(-1) of every column, uint8 [2, K], 0 where both fit; ``None`` if some column breaks the rule.

    A code that is not zero tells its own grid. What that differs by from the grid of a column that starts with zeros
    is a_0 in even rows, a_(-1) in odd ones, or the rule is broken.
    """
    k = _indices(signed)
    zeros = np.zeros((2, signed.shape[1]), np.uint8)
    differs = _grids((k & 1).view(np.uint8), zeros)[: len(k)] ^ (signed & 1).view(np.uint8)
    told = signed != 0
    found = np.zeros_like(zeros)
    for phase in (0, 1):
        ones, some = differs[phase::2] & told[phase::2], told[phase::2]
        found[phase] = ones.any(axis=0)
        if (ones.sum(axis=0, dtype=np.int64) != np.where(found[phase], some.sum(axis=0), 0)).any():
            return None
    return found


def states_after(signed: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Grid of the row that follows, and of the last one, for columns that start with zeros: int8 [R, K] → [2, K]."""
    zeros = np.zeros((2, signed.shape[1]), np.uint8)
    if not len(signed):
        return zeros
    grid = _grids((_indices(signed) & 1).view(np.uint8), zeros)
    return grid[[-1, -2]]
