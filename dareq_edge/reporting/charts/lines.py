"""A line per series over the decoder blocks, with whiskers where a point stands for many values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dareq_edge.reporting.charts.axis import Axis, axis_for, bottom_axis, left_axis
from dareq_edge.reporting.charts.frame import WIDTH, Words, figure, label, line, marker
from dareq_edge.reporting.markup import Child, Markup, el, join

_LEFT, _TOP, _BOTTOM, _HEIGHT = 46, 18, 200, 232
_MARKED = 150  # points, beyond which markers hide the lines


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a place, the ends of its whisker, if it has one, and what is written beside it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    label: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind, by increasing x."""

    label: str
    points: tuple[Point, ...]


def lines(
    words: Words,
    series: Sequence[Series],
    x_name: str,
    y_name: str,
    *,
    reference: tuple[float, str] | None = None,
    numbers: Child = None,
) -> Markup:
    """Draw series.

    Args:
        words: Title and description.
        series: At least one point among them; values that are not finite are left out.
        x_name: Of the horizontal axis, whose values are whole numbers.
        y_name: Of the vertical axis.
        reference: A value that a horizontal line is drawn at, and what it is called.
        numbers: A table of the same.
    """
    shown = [Series(s.label, tuple(p for p in s.points if math.isfinite(p.y))) for s in series]
    points = [p for s in shown for p in s.points]
    values = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
    values += [] if reference is None else [reference[0]]
    vertical = axis_for(values or [0.0, 1.0], _BOTTOM, _TOP)
    places = [p.x for p in points] or [0.0]
    first, last = min(places), max(places)
    across = Axis(first - 0.5, last + 0.5, _LEFT, WIDTH - 4)
    shapes: list[Child] = [
        left_axis(vertical, _LEFT),
        bottom_axis(across, _BOTTOM, _BOTTOM, _whole(first, last)),
        label(0, 10, y_name, kind="tick"),
        label(WIDTH - 4, _HEIGHT - 3, x_name, "end", "tick"),
    ]
    if reference is not None:
        y = vertical(reference[0])
        shapes += [line(_LEFT, y, WIDTH - 4, y, "reference"), label(WIDTH - 6, y - 3, reference[1], "end", "tick")]
    marked = len(points) <= _MARKED
    for i, one in enumerate(shown):
        shapes.append(_drawn(one, i, across, vertical, marked=marked))
    return figure(words, _HEIGHT, *shapes, legend=[s.label for s in shown] if len(shown) > 1 else (), numbers=numbers)


def _drawn(series: Series, i: int, across: Axis, vertical: Axis, *, marked: bool) -> Markup:
    color = f"s{i % 8}"
    path = "L".join(f"{across(p.x):.2f},{vertical(p.y):.2f}" for p in series.points)
    parts: list[Child] = [el("path", d=f"M{path}", class_=f"line {color}")] if len(series.points) > 1 else []
    for p in series.points:
        x = across(p.x)
        if p.low is not None and p.high is not None:
            parts.append(line(x, vertical(p.low), x, vertical(p.high), f"whisker thin {color}"))
        if marked or len(series.points) == 1:
            parts.append(marker(x, vertical(p.y), i, 3))
    return join(*parts)


def _whole(first: float, last: float) -> list[float]:
    """Whole numbers from first to last, at most a dozen, evenly spaced."""
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if (last - first) / s <= 12)
    start = math.ceil(first / step) * step
    return [float(v) for v in range(start, math.floor(last) + 1, step)]
