"""What a thread that decodes keeps between frames: fresh memory for each would cost as much as the decoding."""

from __future__ import annotations

import numpy as np
import zstandard

from dareq_edge.container.layout import FRAME_LIMIT


class Workspace:
    """Scratch of one thread, 2.5 MiB.

    Attributes:
        payload: FRAME_LIMIT bytes, for a coded frame.
        packed: FRAME_LIMIT / 2 bytes, for a frame of pairs.
        flags: bool of the same length.
        zstd: A decoder that refuses windows larger than a frame.
    """

    __slots__ = ("flags", "packed", "payload", "zstd")

    def __init__(self) -> None:
        self.payload = bytearray(FRAME_LIMIT)
        self.packed = bytearray(FRAME_LIMIT // 2)
        self.flags = np.empty(FRAME_LIMIT // 2, np.bool_)
        self.zstd = zstandard.ZstdDecompressor(max_window_size=FRAME_LIMIT)
