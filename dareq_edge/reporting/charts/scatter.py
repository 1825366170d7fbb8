"""Points of several series in a plane: perplexity against bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dareq_edge.reporting.charts.axis import axis_for, bottom_axis, left_axis
from dareq_edge.reporting.charts.frame import WIDTH, Words, cut, figure, label, line, marker
from dareq_edge.reporting.charts.lines import Series
from dareq_edge.reporting.markup import Child, Markup, el, join

_LEFT, _TOP, _BOTTOM, _HEIGHT = 46, 18, 236, 268


@dataclass(frozen=True, slots=True)
class Axes:
    """Names of the axes, and a horizontal line with its name."""

    x: str
    y: str
    reference: tuple[float, str]


def scatter(words: Words, series: Sequence[Series], axes: Axes, *, numbers: Child = None) -> Markup:
    """Draw points, those of one series joined by a line.

    Args:
        words: Title and description.
        series: At least one finite point among them; whiskers are drawn where points have them.
        axes: What they are.
        numbers: A table of the same.
    """
    points = [p for s in series for p in s.points if math.isfinite(p.y)]
    ends = [v for p in points for v in (p.y, p.low, p.high) if v is not None and math.isfinite(v) and v > 0]
    up = axis_for([*ends, axes.reference[0]], _BOTTOM, _TOP)
    across = axis_for([p.x for p in points] or [1.0], _LEFT + 6, WIDTH - 10, log=False)
    y = up(axes.reference[0])
    shapes: list[Child] = [
        left_axis(up, _LEFT),
        bottom_axis(across, _TOP, _BOTTOM),
        label(0, 10, axes.y, kind="tick"),
        label(WIDTH - 4, _HEIGHT - 3, axes.x, "end", "tick"),
        line(_LEFT, y, WIDTH - 4, y, "reference"),
        label(WIDTH - 6, y - 3, axes.reference[1], "end", "tick"),
    ]
    for i, one in enumerate(series):
        finite = [p for p in one.points if math.isfinite(p.y)]
        path = "L".join(f"{across(p.x):.2f},{up(p.y):.2f}" for p in finite)
        if len(finite) > 1:
            shapes.append(el("path", d=f"M{path}", class_=f"line s{i % 8}"))
        for p in finite:
            x = across(p.x)
            whisker = None
            if p.low is not None and p.high is not None:
                whisker = line(x, up(max(p.low, up.low)), x, up(p.high), f"whisker thin s{i % 8}")
            side, anchor = (x + 6, "start") if x < WIDTH - 90 else (x - 6, "end")
            name = label(side, up(p.y) + (12 if i % 2 else -5), cut(p.label, 14), anchor, "tick") if p.label else None
            shapes.append(join(whisker, marker(x, up(p.y), i), name))
    return figure(words, _HEIGHT, *shapes, legend=[s.label for s in series], numbers=numbers)
