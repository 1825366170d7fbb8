"""float32 values as four byte planes: sign and exponents, which repeat, apart from the bits that do not.

Scales per channel are stored replicated along their row; a frame whose rows are constant keeps one value per row.

    offset  bytes  content
    0       4      R, bytes per row if every row is one value repeated, else 0
    4       16     Z0 to Z3, bytes of the four zstd frames
    20      …      four zstd frames of n/4 bytes (n/R if R > 0): the values' bytes 0, the lowest, to 3

n, the bytes unpacked, must be a multiple of 4 and of R; bf16-exact values have two planes of zeros, almost free.
"""

from __future__ import annotations

from struct import Struct

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container.workspace import Workspace
from dareq_edge.container.zstd import DamagedError, dense, huffman, unzstd

_HEAD = Struct("<IIIII")


def encode(data: NDArray[np.uint8], row: int) -> bytes | None:
    """Code a frame.

    Args:
        data: uint8 [n], little-endian float32 values.
        row: Bytes per row.

    Returns:
        The payload, or None if the frame is no whole number of values.
    """
    if len(data) % 4:
        return None
    values = data.view("<u4")
    repeat = 0
    if row % 4 == 0 and row > 4 and len(data) % row == 0:
        rows = values.reshape(-1, row // 4)
        if (rows == rows[:, :1]).all():
            values, repeat = rows[:, 0], row
    columns = np.ascontiguousarray(values).view(np.uint8).reshape(-1, 4)
    planes = [_smaller(np.ascontiguousarray(columns[:, i])) for i in range(4)]
    return _HEAD.pack(repeat, *map(len, planes)) + b"".join(planes)


def _smaller(plane: NDArray[np.uint8]) -> bytes:
    return min(huffman(plane), dense(plane, level=3), key=len)


def decode(payload: memoryview, out: NDArray[np.uint8], work: Workspace) -> None:
    """Decode a frame into ``out`` [n].

    Raises:
        DamagedError: The payload is not of this form, or holds another number of values.
    """
    if len(payload) < _HEAD.size:
        raise DamagedError("a payload of planes has no head")
    repeat, *lengths = _HEAD.unpack_from(payload)
    width = repeat or 4
    if width % 4 or len(out) % width or _HEAD.size + sum(lengths) != len(payload):
        raise DamagedError(f"a payload of planes has rows of {repeat} bytes and parts of {lengths}")
    columns = np.empty((len(out) // width, 4), np.uint8)
    plane = np.empty(len(columns), np.uint8)
    start = _HEAD.size
    for i, length in enumerate(lengths):
        unzstd(payload[start : start + length], plane, work.zstd)
        columns[:, i] = plane
        start += length
    out.view("<u4").reshape(len(columns), -1)[:] = columns.view("<u4")
