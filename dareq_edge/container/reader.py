"""Reading a container: header first, then any frame on its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container.frames import decode_frame
from dareq_edge.container.layout import Entry, Header, read_header
from dareq_edge.container.threads import count, shared
from dareq_edge.container.workspace import Workspace
from dareq_edge.container.zstd import DamagedError
from dareq_edge.errors import ArtifactError


class _Span(NamedTuple):
    """Where a frame is: its number, entry, first byte in the container, first byte unpacked."""

    number: int
    entry: Entry
    at: int
    start: int


@dataclass(frozen=True, eq=False)
class Container:
    """An opened container, whose header was checked.

    Attributes:
        path: The file.
        header: Its header and frame table.

    Example:
        >>> from dareq_edge.container import encode
        >>> _ = Path("codes.bin").write_bytes(bytes([0x88] * 5000))
        >>> encode(Path("codes.bin"), [], Path("codes.dqz"))
        >>> container = Container.open(Path("codes.dqz"))
        >>> out = np.empty(container.nbytes, np.uint8)
        >>> container.decode_into(out)
        >>> out.tobytes() == bytes([0x88] * 5000)
        True
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

        def work(spans: Iterator[_Span]) -> None:
            scratch = Workspace()
            with self._file() as file:
                for span in spans:
                    self._decode(file, span, out[span.start : span.start + span.entry.raw], scratch)

        shared(work, self._spans(), min(count(threads), max(1, len(self.header.table))))

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Offset and unpacked bytes, at most 2^20, of every frame in order.

        Raises:
            ArtifactError: A frame is damaged or missing.
        """
        scratch = Workspace()
        with self._file() as file:
            for span in self._spans():
                out = np.empty(span.entry.raw, np.uint8)
                self._decode(file, span, out, scratch)
                yield span.start, out.tobytes()

    def _file(self) -> RawIOBase:
        try:
            return self.path.open("rb", buffering=0)
        except OSError as error:
            raise ArtifactError(f"{self.path} cannot be read ({error.strerror}); copy it again") from error

    def _spans(self) -> Iterator[_Span]:
        at, start = self.header.size, 0
        for number, entry in enumerate(self.header.entries()):
            yield _Span(number, entry, at, start)
            at, start = at + entry.coded, start + entry.raw

    def _decode(self, file: RawIOBase, span: _Span, out: NDArray[np.uint8], work: Workspace) -> None:
        try:
            decode_frame(file, span.at, span.entry, out, work)
        except (DamagedError, OSError) as error:
            raise ArtifactError(f"{self.path} is damaged in frame {span.number} ({error}); copy it again") from error
