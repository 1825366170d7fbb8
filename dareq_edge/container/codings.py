"""What the payload of a frame means: one pure decoder per coding of the table.

    stored   the bytes themselves
    zeros    nothing; every byte is 0
    zstd     one zstd frame
    pairs    see ``pairs``: codes near 128, two per byte, then one zstd frame
    planes   see ``planes``: float32 values as byte planes, one zstd frame each
    trellis  see ``trellis``: codes of two grids that take turns, as indices

A zstd frame must state its content size, carry its checksum, need no dictionary and no window of more than 2^20
bytes, and end where its part of the payload ends.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container import pairs, planes, trellis
from dareq_edge.container.workspace import Workspace
from dareq_edge.container.zstd import unzstd


def _decode_stored(payload: memoryview, out: NDArray[np.uint8], work: Workspace) -> None:
    out[:] = np.frombuffer(payload, np.uint8)


def _decode_zeros(payload: memoryview, out: NDArray[np.uint8], work: Workspace) -> None:
    out[:] = 0


def _decode_zstd(payload: memoryview, out: NDArray[np.uint8], work: Workspace) -> None:
    unzstd(payload, out, work.zstd)


DECODERS: dict[str, Callable[[memoryview, NDArray[np.uint8], Workspace], None]] = {
    "stored": _decode_stored,
    "zeros": _decode_zeros,
    "zstd": _decode_zstd,
    "pairs": pairs.decode,
    "planes": planes.decode,
    "trellis": trellis.decode,
}
