"""Histograms: one with axes, and the small one that stands in a table's row."""

from __future__ import annotations

from collections.abc import Sequence

from dareq_edge.reporting.charts.axis import Axis, bottom_axis
from dareq_edge.reporting.charts.frame import WIDTH, Words, figure, label, line, rect
from dareq_edge.reporting.markup import Child, Markup, el

_TOP, _BOTTOM = 8, 150


def histogram(words: Words, shares: Sequence[float], low: float, high: float, name: str, numbers: Child) -> Markup:
    """Draw shares of equal bins.

    Args:
        words: Title and description.
        shares: Per bin, 0 to 1.
        low: Left end of the first bin.
        high: Right end of the last.
        name: Of the horizontal axis.
        numbers: A table of the same.
    """
    across = Axis(low, high, 2, WIDTH - 2)
    up = Axis(0.0, max(shares) or 1.0, _BOTTOM, _TOP)
    width = (high - low) / len(shares)
    shapes = [
        rect(across(low + i * width) + 0.4, up(s), (WIDTH - 4) / len(shares) - 0.8, _BOTTOM - up(s), "bar s0")
        for i, s in enumerate(shares)
    ]
    halves = [line(across(x), _TOP - 6, across(x), _BOTTOM, "reference") for x in (-0.5, 0.5)]
    axis = bottom_axis(across, _BOTTOM, _BOTTOM, [-1.0, -0.5, 0.0, 0.5, 1.0])
    caption = label(WIDTH / 2, _BOTTOM + 28, name, "middle", "tick")
    return figure(words, _BOTTOM + 34, *shapes, *halves, axis, caption, numbers=numbers)


def spark(counts: Sequence[int]) -> Markup:
    """A histogram as large as a word, whose numbers are in the same row of a table."""
    most = max(counts) or 1
    step = 80 / len(counts)
    path = "".join(f"L{i * step:.1f},{20 - 18 * c / most:.1f}h{step:.1f}" for i, c in enumerate(counts))
    return el(
        "svg",
        el("path", d=f"M0,20{path}V20Z", class_="bar s0"),
        viewBox="0 0 80 20",
        class_="spark",
        aria_hidden="true",
        xmlns="http://www.w3.org/2000/svg",
    )
