"""Reading a container: header first, then any frame on its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container.frames import decode_frame
from dareq_edge.container.layout import Header, read_header
from dareq_edge.container.threads import count
from dareq_edge.container.zstd import DamagedError
from dareq_edge.errors import ArtifactError


@dataclass(frozen=True)
class Container:
    """An opened container, whose header was checked.

    Attributes:
        path: The file.
        header: Its header and frame table.
    """

    path: Path
    header: Header

    @classmethod
    def open(cls, path: Path) -> Container:
        """Read and check the header; nothing larger than the table is allocated.

        Raises:
            ArtifactError: The file is no container of this version, was cut short, or its header was changed.
        """
        return cls(path, read_header(path))

    @property
    def nbytes(self) -> int:
        """Bytes of the unpacked file."""
        return self.header.nbytes

    @property
    def sha256(self) -> str:
        """Hex sha256 of the unpacked file."""
        return self.header.sha256

    def decode_into(self, out: NDArray[np.uint8], *, threads: int | None = None) -> None:
        """Unpack the whole file; beside ``out`` it needs a few MB per thread.

        Args:
            out: uint8 [nbytes], contiguous and writable.
            threads: Frames decoded at once; by default one per processor, at most 8.

        Raises:
            ArtifactError: A frame is damaged or missing; ``out`` then holds nothing usable.
        """
        if out.shape != (self.nbytes,) or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ArtifactError(f"{self.path} unpacks to {self.nbytes} bytes, not into {out.dtype} {out.shape}")
        workers = min(count(threads), max(1, len(self.header.table)))
        todo, lock = iter(self._spans()), Lock()

        def work() -> None:
            with self._file() as file:
                while True:
                    with lock:
                        span = next(todo, None)
                    if span is None:
                        return
                    index, at, start, length = span
                    try:
                        self._decode(file, index, at, out[start : start + length])
                    except BaseException:
                        with lock:
                            for _ in todo:  # the other threads have nothing left to do
                                pass
                        raise

        if workers == 1:
            work()
            return
        with ThreadPoolExecutor(workers) as pool:
            for future in [pool.submit(work) for _ in range(workers)]:
                future.result()

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Offset and unpacked bytes, at most 2^20, of every frame in order.

        Raises:
            ArtifactError: A frame is damaged or missing.
        """
        with self._file() as file:
            for index, at, start, length in self._spans():
                out = np.empty(length, np.uint8)
                self._decode(file, index, at, out)
                yield start, out.tobytes()

    def _file(self) -> BinaryIO:
        try:
            return self.path.open("rb", buffering=0)
        except OSError as error:
            raise ArtifactError(f"{self.path} cannot be read ({error.strerror}); copy it again") from error

    def _spans(self) -> Iterator[tuple[int, int, int, int]]:
        """Of every frame: index, first byte in the container, first byte unpacked, bytes unpacked."""
        at, start = self.header.size, 0
        table = self.header.table
        for index, (raw, coded) in enumerate(zip(table["raw"].tolist(), table["coded"].tolist(), strict=True)):
            yield index, at, start, raw
            at, start = at + coded, start + raw

    def _decode(self, file: BinaryIO, index: int, at: int, out: NDArray[np.uint8]) -> None:
        entry = self.header.table[index]
        try:
            file.seek(at)
            decode_frame(entry, file.read(int(entry["coded"])), out)
        except (DamagedError, OSError) as error:
            raise ArtifactError(f"{self.path} is damaged in frame {index} ({error}); copy it again") from error
