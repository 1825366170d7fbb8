"""Writing a container: the source is read once, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dareq_edge.container.frames import encode_frame
from dareq_edge.container.layout import ENTRY, Entry, Header, header_size
from dareq_edge.container.regions import Region, cover, cut
from dareq_edge.container.threads import count, in_order
from dareq_edge.errors import ArtifactError
from dareq_edge.progress import Progress, silent


def encode(
    source: Path,
    regions: Sequence[Region],
    target: Path,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> None:
    """Write ``source`` as a container.

    Args:
        source: The file to pack.
        regions: Sorted, disjoint parts of it; what they leave out is taken as bytes.
        target: File to write; an existing one is replaced.
        threads: Frames coded at once; by default one per processor, at most 8.
        progress: Called with "packing", frames done and frames in all.

    Raises:
        SpecError: The regions overlap, are not sorted, or reach beyond the file.
        ArtifactError: The file changed while it was read.
    """
    size = source.stat().st_size
    pieces = [piece for region in cover(regions, size) for piece in cut(region)]
    table = np.zeros(len(pieces), ENTRY)
    digest = sha256()

    def data() -> Iterator[tuple[Region, NDArray[np.uint8]]]:
        with source.open("rb") as file:
            for piece in pieces:
                data = file.read(piece.nbytes)
                if len(data) != piece.nbytes:
                    raise ArtifactError(f"{source} became shorter while it was packed; run again")
                digest.update(data)
                yield piece, np.frombuffer(data, np.uint8)

    try:
        with target.open("wb") as out:
            out.write(bytes(header_size(len(pieces))))
            for i, (entry, payload) in enumerate(in_order(_frame, data(), count(threads))):
                table[i] = entry
                out.write(payload)
                progress("packing", i + 1, len(pieces))
            out.seek(0)
            out.write(Header(size, digest.hexdigest(), table).to_bytes())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _frame(job: tuple[Region, NDArray[np.uint8]]) -> tuple[Entry, bytes]:
    piece, data = job
    return encode_frame(data, piece.kind, piece.row)
