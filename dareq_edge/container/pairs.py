"""Codes near 128, two per byte: what Huffman coding needs to come near the entropy below some 3.5 bits per code.

A frame of n codes is split in halves of h = ceil(n/2) and n - h codes (if n is odd, a 128 is appended to the second).
Byte i stands for code i of both halves, the first in the low nibble, the second in the high one; a nibble is the code
minus 120. Codes 121 to 135 have nibbles 1 to 15. Byte 0 is an escape: a pair in which a code is none of these.

    codes 128 129 | 127 200   ->   bytes 0x78, 0x00; escapes 129 200

    offset  bytes  content
    0       4      E, number of escapes
    4       4      Z, bytes of the next zstd frame
    8       Z      zstd frame of the h bytes
    8 + Z   …      zstd frame of the escapes' 2·E codes: first those of the first half, then those of the second;
                   absent if E is 0
"""

from __future__ import annotations

from struct import Struct

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container.zstd import DamagedError, huffman, unzstd

_HEAD = Struct("<II")
_OFFSET, _FILLER = 120, 8  # code of nibble 0, and the nibble of code 128
_MOST_ESCAPES = 1 / 16  # of all pairs; with more, finding them takes longer than one code per byte does
_FEW = 400  # so few escapes are searched for one by one


def encode(codes: NDArray[np.uint8]) -> bytes | None:
    """Code a frame.

    Args:
        codes: uint8 [n].

    Returns:
        The payload, or None if there are too many escapes for this coding.
    """
    half = -(-len(codes) // 2)
    nibbles = codes - np.uint8(_OFFSET)
    first = nibbles[:half]
    second = nibbles[half:] if len(codes) % 2 == 0 else np.append(nibbles[half:], np.uint8(_FILLER))
    escaped = np.flatnonzero((first - np.uint8(1) > 14) | (second - np.uint8(1) > 14))
    if len(escaped) > half * _MOST_ESCAPES:
        return None
    packed = first | second << np.uint8(4)
    packed[escaped] = 0
    body = huffman(packed)
    head = _HEAD.pack(len(escaped), len(body))
    if not len(escaped):
        return head + body
    rare = np.concatenate([first[escaped], second[escaped]]) + np.uint8(_OFFSET)
    return head + body + huffman(rare)


def decode(payload: memoryview, out: NDArray[np.uint8]) -> None:
    """Decode a frame into ``out`` [n].

    Raises:
        DamagedError: The payload is not of this form, or holds another number of codes.
    """
    half = -(-len(out) // 2)
    if len(payload) < _HEAD.size:
        raise DamagedError("a payload of pairs has no head")
    escapes, length = _HEAD.unpack_from(payload)
    rest = payload[_HEAD.size + length :]
    if escapes > half or (escapes == 0) != (len(rest) == 0):
        raise DamagedError(f"a payload of pairs claims {escapes} escapes")
    packed = np.empty(half, np.uint8)
    unzstd(payload[_HEAD.size : _HEAD.size + length], packed)
    first, second, both = out[:half], out[half:], packed[: len(out) - half]
    np.add(np.bitwise_and(packed, 15, out=first), _OFFSET, out=first)
    np.add(np.right_shift(both, 4, out=second), _OFFSET, out=second)
    if escapes:
        rare = np.empty(2 * escapes, np.uint8)
        unzstd(rest, rare)
        _place(packed, rare, first, second)


def _place(
    packed: NDArray[np.uint8], rare: NDArray[np.uint8], first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> None:
    """Put the escaped codes where ``packed`` is 0."""
    count = len(rare) // 2
    found = _find(packed.tobytes(), count) if count <= _FEW else np.flatnonzero(packed == 0)
    if len(found) != count:
        raise DamagedError(f"{len(found)} pairs are escapes, not {count}")
    first[found] = rare[:count]
    inside = found < len(second)
    second[found[inside]] = rare[count:][inside]


def _find(packed: bytes, count: int) -> NDArray[np.intp]:
    """Positions of the zeros, looking for at most one more than ``count``."""
    found: list[int] = []
    at = packed.find(0)
    while at >= 0 and len(found) <= count:
        found.append(at)
        at = packed.find(0, at + 1)
    return np.array(found, np.intp)
