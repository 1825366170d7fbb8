"""Points with error bars, one row each: what overlaps is the same as far as the measurement tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dareq_edge.reporting.charts.axis import axis_for, bottom_axis
from dareq_edge.reporting.charts.frame import WIDTH, Words, cut, figure, label, line, marker, room
from dareq_edge.reporting.markup import Child, Markup, join

_ROW = 34


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its standard error; ``shown`` is written at the right."""

    label: str
    value: float
    error: float
    shown: str


def intervals(words: Words, rows: Sequence[Interval], *, numbers: Child = None, open_: bool = False) -> Markup:
    """Draw values with bars of one standard error to either side.

    Args:
        words: Title and description.
        rows: From top to bottom, finite.
        numbers: A table of the same.
        open_: Whether it is unfolded.
    """
    ends = [r.value - r.error for r in rows] + [r.value + r.error for r in rows]
    axis = axis_for(ends, 6, WIDTH - 6, log=False)
    bottom = len(rows) * _ROW + 4
    shapes = [bottom_axis(axis, 0, bottom)]
    for i, row in enumerate(rows):
        y = i * _ROW + 26
        low, high = axis(row.value - row.error), axis(row.value + row.error)
        shapes.append(
            join(
                label(0, y - 12, cut(row.label, room(row.shown))),
                label(WIDTH, y - 12, row.shown, "end"),
                line(low, y, high, y, f"whisker s{i % 8}"),
                line(low, y - 4, low, y + 4, f"whisker s{i % 8}"),
                line(high, y - 4, high, y + 4, f"whisker s{i % 8}"),
                marker(axis(row.value), y, i),
            )
        )
    return figure(words, bottom + 18, *shapes, numbers=numbers, open_=open_)
