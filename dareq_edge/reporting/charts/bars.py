"""Horizontal bars with their labels above them, which leaves the whole width of a phone to the bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dareq_edge.reporting.charts.axis import Axis
from dareq_edge.reporting.charts.frame import WIDTH, Words, cut, figure, label, rect, room
from dareq_edge.reporting.markup import Child, Markup, join

_ROW, _BAR = 36, 14


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; ``shown`` is written at its right, ``kind`` is the class that colours it."""

    label: str
    value: float
    shown: str
    kind: str


def bars(words: Words, rows: Sequence[Bar], *, numbers: Child = None, open_: bool = False) -> Markup:
    """Draw bars from 0 to the largest value.

    Args:
        words: Title and description.
        rows: From top to bottom; values 0 or more.
        numbers: A table of the same.
        open_: Whether it is unfolded.
    """
    axis = Axis(0.0, max((r.value for r in rows), default=0.0) or 1.0, 0.0, WIDTH)
    shapes = []
    for i, row in enumerate(rows):
        y = i * _ROW
        shapes.append(
            join(
                label(0, y + 13, cut(row.label, room(row.shown))),
                label(WIDTH, y + 13, row.shown, "end"),
                rect(0, y + 18, WIDTH, _BAR, "track"),
                rect(0, y + 18, max(axis(row.value), 1.0), _BAR, f"bar {row.kind}"),
            )
        )
    return figure(words, max(len(rows) * _ROW, 1), *shapes, numbers=numbers, open_=open_)
