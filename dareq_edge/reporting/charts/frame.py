"""What every chart has: a figure, a title and a description for those who do not see it, a legend, its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dareq_edge.reporting.markup import Child, Markup, el, join

WIDTH = 360
"""Units of every chart's view box; a phone shows about one unit per pixel."""
_LETTER = 6.8  # units that a letter takes, rather more than less
SERIES = 8
"""Colours and markers there are; further series start again, told apart by their marker's outline only."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a chart is called.

    Attributes:
        anchor: Unique on the page; ids are made of it.
        title: Short.
        desc: What a reader would see, in a sentence or two.
    """

    anchor: str
    title: str
    desc: str


def figure(
    words: Words,
    height: float,
    *shapes: Child,
    legend: Sequence[str] = (),
    numbers: Child = None,
    open_: bool = False,
) -> Markup:
    """A chart.

    Args:
        words: Title and description.
        height: Units of the view box.
        *shapes: SVG elements.
        legend: Labels of the series, in order.
        numbers: A table of the same numbers, folded away.
        open_: Whether that is unfolded at first.
    """
    title, desc = f"{words.anchor}-title", f"{words.anchor}-desc"
    svg = el(
        "svg",
        el("title", words.title, id=title),
        el("desc", words.desc, id=desc),
        *shapes,
        viewBox=f"0 0 {WIDTH} {height:g}",
        role="img",
        aria_labelledby=f"{title} {desc}",
        xmlns="http://www.w3.org/2000/svg",
    )
    keys = [el("li", marker_key(i), label) for i, label in enumerate(legend)]
    return el(
        "figure",
        el("figcaption", words.title),
        svg,
        el("ul", *keys, class_="legend") if keys else None,
        None if numbers is None else el("details", el("summary", "Numbers"), numbers, open=open_ or None),
        id=words.anchor,
    )


def marker_key(series: int) -> Markup:
    """A series' marker for the legend."""
    return el(
        "svg",
        marker(6, 6, series),
        viewBox="0 0 12 12",
        class_="key",
        aria_hidden="true",
        xmlns="http://www.w3.org/2000/svg",
    )


def marker(x: float, y: float, series: int, radius: float = 3.5) -> Markup:
    """A point of a series: colour and form differ, so that either is enough."""
    color = f"s{series % SERIES} mark"
    r = radius
    if series % 4 == 0:
        return el("circle", cx=f"{x:.2f}", cy=f"{y:.2f}", r=f"{r:g}", class_=color)
    corners = {
        1: [(-r, -r), (r, -r), (r, r), (-r, r)],
        2: [(0, -1.3 * r), (1.2 * r, r), (-1.2 * r, r)],
        3: [(0, -1.4 * r), (1.4 * r, 0), (0, 1.4 * r), (-1.4 * r, 0)],
    }[series % 4]
    points = " ".join(f"{x + dx:.2f},{y + dy:.2f}" for dx, dy in corners)
    return el("path", d=f"M{points.replace(' ', 'L')}Z", class_=color)


def label(x: float, y: float, words: str, anchor: str = "start", kind: str = "label") -> Markup:
    """Text in a chart; ``y`` is its base line."""
    return el("text", words, x=f"{x:.2f}", y=f"{y:.2f}", text_anchor=anchor, class_=kind)


def cut(words: str, most: int) -> str:
    """At most so many characters; what is cut is in the chart's table, or in its title."""
    return words if len(words) <= most else f"{words[: max(most, 1) - 1]}…"


def room(taken: str = "") -> int:
    """Characters that a chart's line has room for beside what is written at its right."""
    return int((WIDTH - 10) / _LETTER) - len(taken)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return el("line", x1=f"{x1:.2f}", y1=f"{y1:.2f}", x2=f"{x2:.2f}", y2=f"{y2:.2f}", class_=kind)


def rect(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    """A rectangle."""
    return el(
        "rect", x=f"{x:.2f}", y=f"{y:.2f}", width=f"{max(width, 0):.2f}", height=f"{max(height, 0):.2f}", class_=kind
    )


def group(*shapes: Child) -> Markup:
    """Shapes, in one element."""
    return el("g", join(*shapes))
