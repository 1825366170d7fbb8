"""What a matrix costs in a container, without writing one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container.frames import encode_frame
from dareq_edge.container.layout import ENTRY
from dareq_edge.container.regions import Kind, Region, cut
from dareq_edge.packing import pack


def coded_bytes(codes: NDArray[np.uint8], scales: NDArray[np.float32], bits: int) -> int:
    """Bytes of codes and scales in a container, their entries in the frame table included.

    Args:
        codes: uint8 [N, K], each in [0, 2^bits).
        scales: float32 [N, G].
        bits: Of a code; up to 4 are stored two per byte, more one per byte.

    Returns:
        Bytes, to which a container adds 88 once.
    """
    stored = pack(codes, 4) if bits <= 4 else np.ascontiguousarray(codes)
    kind: Kind = "codes4" if bits <= 4 else "codes8"
    floats = np.ascontiguousarray(scales, dtype="<f4")
    return _cost(stored, kind) + _cost(floats, "floats")


def _cost(matrix: NDArray[np.uint8] | NDArray[np.float32], kind: Kind) -> int:
    data = matrix.reshape(-1).view(np.uint8)
    row = matrix.shape[1] * matrix.itemsize
    pieces = cut(Region(0, len(data), kind, row)) if len(data) else iter(())
    return sum(ENTRY.itemsize + len(encode_frame(data[p.offset : p.offset + p.nbytes], kind, row)[1]) for p in pieces)
