"""One frame: the smallest coding of some bytes, and those bytes again, checked on the way."""

from __future__ import annotations

from io import RawIOBase

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container import pairs, planes, trellis
from dareq_edge.container.codings import DECODERS
from dareq_edge.container.layout import CODINGS, KINDS, Entry, check_of
from dareq_edge.container.regions import Kind
from dareq_edge.container.workspace import Workspace
from dareq_edge.container.zstd import DamagedError, dense, huffman


def encode_frame(data: NDArray[np.uint8], kind: Kind, row: int) -> tuple[Entry, bytes]:
    """The smallest payload for the bytes of one frame.

    Args:
        data: uint8 [n], the unpacked bytes.
        kind: What it holds.
        row: Bytes per row.

    Returns:
        Its table entry and the payload, never longer than ``data``.
    """
    coding, payload = _smallest(data, kind, row)
    index = CODINGS.index(coding)
    entry = Entry(KINDS.index(kind), index, 0, len(data), len(payload), check_of(index, payload))
    return entry, payload


def _smallest(data: NDArray[np.uint8], kind: Kind, row: int) -> tuple[str, bytes]:
    """The coding that makes a frame smallest, and its payload."""
    if not data.any():
        return "zeros", b""
    found: dict[str, bytes | None] = {}
    if kind == "codes8":
        paired = pairs.encode(data)
        found = {"zstd": huffman(data)} if paired is None else {"pairs": paired}
        found["trellis"] = trellis.encode(data, row)
    elif kind == "codes4":
        found = {"zstd": huffman(data)}
    elif kind == "floats":
        found = {"planes": planes.encode(data, row), "zstd": dense(data, level=3)}
    else:
        found = {"zstd": dense(data, level=12)}
    coded = {name: payload for name, payload in found.items() if payload is not None}
    name, payload = min(coded.items(), key=lambda item: len(item[1]), default=("stored", b""))
    if name == "stored" or len(payload) >= len(data):
        return "stored", data.tobytes()
    return name, payload


def decode_frame(file: RawIOBase, at: int, entry: Entry, out: NDArray[np.uint8], work: Workspace) -> None:
    """Read the payload at byte ``at``, compare its check, and decode it into ``out``, uint8 [entry.raw].

    Raises:
        DamagedError: The payload is not the one the entry describes, or does not decode to so many bytes.
        OSError: It cannot be read.
    """
    payload = memoryview(work.payload)[: entry.coded]
    file.seek(at)
    if file.readinto(payload) != entry.coded or check_of(entry.coding, payload) != entry.check:
        raise DamagedError("its bytes are not those that were written")
    DECODERS[CODINGS[entry.coding]](payload, out, work)
