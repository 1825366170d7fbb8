"""What the unpacked file holds where, and how that is cut into frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dareq_edge.container.layout import FRAME_LIMIT
from dareq_edge.errors import SpecError

Kind = Literal["codes8", "codes4", "floats", "bytes"]

FRAME = 1 << 19
"""Bytes a frame is at most cut to, unless one row is longer."""


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the unpacked file.

    Attributes:
        offset: Its first byte.
        nbytes: Its length, at least 1.
        kind: "codes8" one code per byte, 128 being zero; "codes4" two per byte; "floats" float32; "bytes" anything.
        row: Bytes per row of the matrix it is; frames of floats and codes8 hold whole rows.
    """

    offset: int
    nbytes: int
    kind: Kind
    row: int

    def __post_init__(self) -> None:
        if (
            self.offset < 0
            or self.nbytes < 1
            or self.row < 1
            or self.kind not in ("codes8", "codes4", "floats", "bytes")
        ):
            raise SpecError(f"{self} is no region; offset, length, row and kind must be possible")


def cover(regions: Sequence[Region], size: int) -> Iterator[Region]:
    """The regions and, as "bytes", what lies between and after them: the whole file of ``size`` bytes.

    Raises:
        SpecError: The regions overlap, are not sorted, or reach beyond the file.
    """
    end = 0
    for region in regions:
        if region.offset < end or region.offset + region.nbytes > size:
            raise SpecError(
                f"{region} overlaps the one before it or the end of the file at {size}; sort and cut them"
            )
        if region.offset > end:
            yield Region(end, region.offset - end, "bytes", 1)
        yield region
        end = region.offset + region.nbytes
    if size > end:
        yield Region(end, size - end, "bytes", 1)


def cut(region: Region) -> Iterator[Region]:
    """The pieces of a region that become frames: about equal, about FRAME bytes; whole rows of floats and codes8."""
    unit = region.row if region.kind in ("floats", "codes8") and region.row <= FRAME_LIMIT else 64
    pieces = -(-region.nbytes // FRAME)
    step = max(unit, -(-region.nbytes // pieces) // unit * unit)
    if step * pieces < region.nbytes and step + unit <= FRAME_LIMIT:
        step += unit
    for start in range(0, region.nbytes, step):
        yield Region(region.offset + start, min(step, region.nbytes - start), region.kind, region.row)
