"""Packing of b-bit codes into bytes: a little-endian bit stream per row.

Code k of a row occupies bits [k*b, (k+1)*b) of the row, bit 0 being the lowest bit of byte 0. A row starts on a
byte boundary. For 4 bits that is "low nibble first", for 2 and 8 bits what MatMulNBits calls packed:

    bits=4  codes 1 2 3 4        byte 0 = 2<<4 | 1 = 0x21, byte 1 = 4<<4 | 3 = 0x43
    bits=2  codes 1 2 3 0        byte 0 = 0<<6 | 3<<4 | 2<<2 | 1 = 0x39
    bits=3  codes 1 2 3          byte 0 = (3&3)<<6 | 2<<3 | 1 = 0xd1, byte 1 = 3>>2 = 0x00
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROWS = 4096  # rows unpacked to single bits at a time: bounds the eightfold scratch memory


def packed_width(k: int, bits: int) -> int:
    """Bytes per packed row of K codes: ceil(K * bits / 8)."""
    return -(-k * bits // 8)


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Pack codes into a bit stream per row.

    Args:
        codes: uint8 [N, K], each in [0, 2^bits).
        bits: 1 to 8.

    Returns:
        uint8 [N, ceil(K*bits/8)]; unused bits at the end of a row are zero.

    Example:
        >>> pack(np.array([[1, 2, 3, 4]], np.uint8), 4).tobytes().hex()
        '2143'
        >>> pack(np.array([[1, 2, 3]], np.uint8), 3).tobytes().hex()
        'd100'
    """
    n, k = codes.shape
    if bits == 8:
        return codes.copy()
    if 8 % bits == 0:
        per_byte = 8 // bits
        padded = np.pad(codes, ((0, 0), (0, -k % per_byte))).reshape(n, -1, per_byte)
        out = padded[:, :, 0].copy()
        for i in range(1, per_byte):
            out |= padded[:, :, i] << np.uint8(i * bits)
        return out
    out = np.empty((n, packed_width(k, bits)), dtype=np.uint8)
    for start in range(0, n, _ROWS):
        rows = codes[start : start + _ROWS]
        stream = np.unpackbits(rows[:, :, None], axis=2, count=bits, bitorder="little")
        out[start : start + _ROWS] = np.packbits(stream.reshape(len(rows), -1), axis=1, bitorder="little")
    return out


def unpack(packed: NDArray[np.uint8], bits: int, k: int) -> NDArray[np.uint8]:
    """Inverse of ``pack``.

    Args:
        packed: uint8 [N, ceil(K*bits/8)].
        bits: 1 to 8.
        k: Codes per row.

    Returns:
        uint8 [N, K].

    Example:
        >>> unpack(np.array([[0x21, 0x43]], np.uint8), bits=4, k=3)
        array([[1, 2, 3]], dtype=uint8)
    """
    n = packed.shape[0]
    if bits == 8:
        return packed.copy()
    if 8 % bits == 0:
        mask = np.uint8((1 << bits) - 1)
        parts = [(packed >> np.uint8(shift)) & mask for shift in range(0, 8, bits)]
        return np.stack(parts, axis=2).reshape(n, -1)[:, :k]
    out = np.empty((n, k), dtype=np.uint8)
    for start in range(0, n, _ROWS):
        rows = packed[start : start + _ROWS]
        stream = np.unpackbits(rows, axis=1, count=k * bits, bitorder="little").reshape(len(rows), k, bits)
        out[start : start + _ROWS] = np.packbits(stream, axis=2, bitorder="little")[:, :, 0]
    return out
