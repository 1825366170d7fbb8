"""zstandard as the containers use it: as a Huffman coder for codes, as itself for the rest, and strictly decoded."""

from __future__ import annotations

from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

from dareq_edge.container.layout import FRAME_LIMIT

HUFFMAN: Final = {
    "strategy": zstandard.STRATEGY_FAST,
    "window_log": 17,
    "hash_log": 6,
    "chain_log": 6,
    "search_log": 1,
    "min_match": 7,
    "target_length": 0,
    "write_content_size": 1,
    "write_checksum": 0,
}
"""Literals only: a match of random codes costs more than the literals it replaces. The table has the checksums."""


class DamagedError(ValueError):
    """A payload does not decode to what its table entry says."""


def huffman(data: NDArray[np.uint8]) -> bytes:
    """One zstd frame of ``data`` [n] that holds Huffman-coded literals and next to no matches."""
    parameters = zstandard.ZstdCompressionParameters(**HUFFMAN)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(np.ascontiguousarray(data).data)


def dense(data: NDArray[np.uint8], level: int = 19) -> bytes:
    """One zstd frame of ``data`` [n] as small as zstd makes it."""
    return zstandard.ZstdCompressor(level=level, write_checksum=False).compress(np.ascontiguousarray(data).data)


def unzstd(payload: memoryview, out: NDArray[np.uint8]) -> None:
    """Decode a zstd frame that must fill ``out`` [n] exactly.

    Raises:
        DamagedError: It claims another size, does not decode, or something follows it.
    """
    try:
        claimed = zstandard.frame_content_size(payload)
        if claimed != len(out):
            raise DamagedError(f"a zstd frame claims {claimed} bytes, not {len(out)}")
        decoder = zstandard.ZstdDecompressor(max_window_size=FRAME_LIMIT)
        out[:] = np.frombuffer(decoder.decompress(payload, allow_extra_data=False), np.uint8)
    except zstandard.ZstdError as error:
        raise DamagedError(str(error)) from error
