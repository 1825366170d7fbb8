"""Codes near 128, two per byte: what Huffman coding needs to come near the entropy below some 3.5 bits per code.

A frame of n codes is split in halves of h = ceil(n/2) and n - h codes (if n is odd, a 128 is appended to the second).
Byte i stands for code i of both halves, the first in the low nibble, the second in the high one; a nibble is the code
minus 120, so that codes 120 to 135 have one. Byte 0 is an escape: a pair in which a code has none, or of two 120s.

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

from dareq_edge.container.workspace import Workspace
from dareq_edge.container.zstd import DamagedError, huffman, unzstd

_HEAD = Struct("<II")
_OFFSET, _FILLER = 120, 8  # code of nibble 0, and the nibble of code 128
_MOST_ESCAPES = 1 / 32  # of all pairs; with more, finding them takes longer than one code per byte does
_RARE = 2**-13  # pairs rarer than this become escapes: zstd's codes end at 11 bits, so each costs all others 1/2048
_FEW = 150  # so few escapes are searched for one by one


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
    packed = first | second << np.uint8(4)
    packed[(first | second) > 15] = 0
    rare = np.bincount(packed, minlength=256) < half * _RARE
    if rare.any():
        packed[rare[packed]] = 0
    escaped = np.flatnonzero(packed == 0)
    if len(escaped) > half * _MOST_ESCAPES:
        return None
    body = huffman(packed)
    head = _HEAD.pack(len(escaped), len(body))
    if not len(escaped):
        return head + body
    codes = np.concatenate([first[escaped], second[escaped]]) + np.uint8(_OFFSET)
    return head + body + huffman(codes)


def decode(payload: memoryview, out: NDArray[np.uint8], work: Workspace) -> None:
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
    packed = np.frombuffer(work.packed, np.uint8, half)
    unzstd(payload[_HEAD.size : _HEAD.size + length], packed, work.zstd)
    first, second = out[:half], out[half:]
    found = _zeros(packed, escapes, work)  # before the cache fills with ``out``
    np.add(np.bitwise_and(packed, 15, out=first), _OFFSET, out=first)
    np.add(np.right_shift(packed[: len(second)], 4, out=second), _OFFSET, out=second)
    if escapes:
        codes = np.empty(2 * escapes, np.uint8)
        unzstd(rest, codes, work.zstd)
        first[found] = codes[:escapes]
        second[found[found < len(second)]] = codes[escapes:][found < len(second)]


def _zeros(packed: NDArray[np.uint8], count: int, work: Workspace) -> NDArray[np.intp]:
    """The ``count`` positions at which ``packed``, the first bytes of ``work.packed``, is 0."""
    if count > _FEW:
        found = _scan(packed, work.flags)
    else:
        places: list[int] = []
        at = work.packed.find(0, 0, len(packed))
        while at >= 0 and len(places) <= count:
            places.append(at)
            at = work.packed.find(0, at + 1, len(packed))
        found = np.array(places, np.intp)
    if len(found) != count:
        raise DamagedError(f"pairs have {len(found)} escapes or more, not {count}")
    return found


def _scan(packed: NDArray[np.uint8], flags: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Positions of zeros: first of the words of eight that have one, then within those."""
    whole = -(-len(packed) // 8)
    np.equal(packed, 0, out=flags[: len(packed)])
    flags[len(packed) : 8 * whole] = False
    words = flags[: 8 * whole].view(np.uint64)
    hits = np.flatnonzero(words != 0)
    inside = np.flatnonzero(words[hits].view(np.bool_))
    found: NDArray[np.intp] = (hits[inside >> 3] << 3) + (inside & 7)
    return found
