"""What a matrix costs in a container, without writing one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container.frames import encode_frame
from dareq_edge.container.layout import ENTRY
from dareq_edge.container.regions import Kind, Region, cut
from dareq_edge.packing import pack

HEADER_BYTES = 88
"""Of a container, before its table of frames (``layout``)."""


def coded_bytes(codes: NDArray[np.uint8], scales: NDArray[np.float32], bits: int) -> int:
    """Bytes of codes and scales in a container, their entries in the frame table included.

    Args:
        codes: uint8 [N, K], each in [0, 2^bits).
        scales: float32 [N, G].
        bits: Of a code; up to 4 are stored two per byte, more one per byte.

    Returns:
        Bytes, to which a container adds ``HEADER_BYTES`` once.
    """
    stored = pack(codes, 4) if bits <= 4 else np.ascontiguousarray(codes)
    kind: Kind = "codes4" if bits <= 4 else "codes8"
    return _cost(stored, kind) + float_bytes(scales)


def float_bytes(values: NDArray[np.float32]) -> int:
    """Bytes of floats in a container, their entries in the frame table included.

    Args:
        values: float32, any shape; rows are those of the first axis.
    """
    floats = np.ascontiguousarray(values, dtype="<f4")
    return _cost(floats.reshape(len(floats), -1) if floats.ndim > 1 else floats.reshape(-1, 1), "floats")


def _cost(matrix: NDArray[np.uint8] | NDArray[np.float32], kind: Kind) -> int:
    data = matrix.reshape(-1).view(np.uint8)
    row = matrix.shape[1] * matrix.itemsize
    pieces = cut(Region(0, len(data), kind, row)) if len(data) else iter(())
    return sum(ENTRY.itemsize + len(encode_frame(data[p.offset : p.offset + p.nbytes], kind, row)[1]) for p in pieces)
