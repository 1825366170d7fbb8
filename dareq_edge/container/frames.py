"""One frame: the smallest coding of some bytes, and those bytes again, checked on the way."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container import pairs, planes
from dareq_edge.container.codings import DECODERS
from dareq_edge.container.layout import CODINGS, KINDS, word_sum
from dareq_edge.container.regions import Kind
from dareq_edge.container.zstd import DamagedError, dense, huffman

_SMALL = 1 << 16  # floats so few are tried as plain bytes too: a constant norm is one match


def encode_frame(data: NDArray[np.uint8], kind: Kind, row: int) -> tuple[tuple[int, ...], bytes]:
    """The smallest payload for the bytes of one frame.

    Args:
        data: uint8 [n], the unpacked bytes.
        kind: What it holds.
        row: Bytes per row.

    Returns:
        Its table entry, a tuple of ``layout.ENTRY``'s fields, and the payload, never longer than ``data``.
    """
    coding, payload = _smallest(data, kind, row)
    entry = (KINDS.index(kind), CODINGS.index(coding), 0, len(data), len(payload), crc32(payload), word_sum(data))
    return entry, payload


def _smallest(data: NDArray[np.uint8], kind: Kind, row: int) -> tuple[str, bytes]:
    """The coding that makes a frame smallest, and its payload."""
    if not data.any():
        return "zeros", b""
    found: dict[str, bytes | None] = {}
    if kind == "codes8":
        found = {"pairs": pairs.encode(data), "zstd": huffman(data)}
    elif kind == "codes4":
        found = {"zstd": huffman(data)}
    elif kind == "floats":
        found = {"planes": planes.encode(data, row), "zstd": dense(data) if len(data) <= _SMALL else None}
    else:
        found = {"zstd": dense(data)}
    coded = {name: payload for name, payload in found.items() if payload is not None}
    name, payload = min(coded.items(), key=lambda item: len(item[1]), default=("stored", b""))
    if name == "stored" or len(payload) >= len(data):
        return "stored", data.tobytes()
    return name, payload


def decode_frame(entry: np.void, payload: bytes, out: NDArray[np.uint8]) -> None:
    """Decode a frame into ``out``, uint8 of the length the entry says, and compare both checksums.

    Raises:
        DamagedError: The payload is not the one the entry describes, or does not decode to its bytes.
    """
    if len(payload) != entry["coded"] or crc32(payload) != entry["crc"]:
        raise DamagedError("its bytes are not those that were written")
    DECODERS[CODINGS[entry["coding"]]](memoryview(payload), out)
    if word_sum(out) != entry["sum"]:
        raise DamagedError("it decodes to other bytes")
