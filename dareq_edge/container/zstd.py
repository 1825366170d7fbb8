"""zstandard as the containers use it: as a Huffman coder for codes, as itself for the rest, and strictly decoded."""

from __future__ import annotations

from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

HUFFMAN: Final = {
    "strategy": zstandard.STRATEGY_FAST,
    "window_log": 17,
    "hash_log": 6,
    "chain_log": 6,
    "search_log": 1,
    "min_match": 7,
    "target_length": 0,
    "write_content_size": 1,
    "write_checksum": 1,
}
"""Literals only: a match of random codes costs more than the literals it replaces."""

_CHECKSUM = 4
_RLE = 1  # a block of one repeated byte: its size is what it decodes to


class DamagedError(ValueError):
    """A payload does not decode to what its table entry says."""


def huffman(data: NDArray[np.uint8]) -> bytes:
    """One zstd frame of ``data`` [n] that holds Huffman-coded literals and next to no matches."""
    parameters = zstandard.ZstdCompressionParameters(**HUFFMAN)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(np.ascontiguousarray(data).data)


def dense(data: NDArray[np.uint8], level: int) -> bytes:
    """One zstd frame of ``data`` [n] as small as zstd makes it."""
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compress(np.ascontiguousarray(data).data)


def unzstd(payload: memoryview, out: NDArray[np.uint8], decoder: zstandard.ZstdDecompressor) -> None:
    """Decode the one zstd frame a payload is into ``out`` [n], which it must fill.

    Raises:
        DamagedError: It claims another size, does not decode, or is not all of the payload.
    """
    try:
        claimed = zstandard.frame_content_size(payload)
        if claimed != len(out):
            raise DamagedError(f"a zstd frame claims {claimed} bytes, not {len(out)}")
        if _frame_length(payload) != len(payload):
            raise DamagedError("a zstd frame lacks its checksum or ends elsewhere than its payload")
        got = decoder.stream_reader(payload).readinto(out.data)
    except zstandard.ZstdError as error:
        raise DamagedError(str(error)) from error
    if got != len(out):
        raise DamagedError(f"a zstd frame holds {got} bytes, not {len(out)}")


def _frame_length(payload: memoryview) -> int:
    """Bytes of a zstd frame by its block headers (RFC 8878, 3.1.1.2); 0 if it is cut short or has no checksum."""
    if not zstandard.get_frame_parameters(payload).has_checksum:
        return 0
    at = zstandard.frame_header_size(payload)
    while at + 3 <= len(payload):
        head = int.from_bytes(payload[at : at + 3], "little")
        last, form, size = head & 1, head >> 1 & 3, head >> 3
        at += 3 + (1 if form == _RLE else size)
        if last:
            return at + _CHECKSUM
    return 0
