"""A part of the page. Each is one file under ``sections``; a new file there is a new section."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dareq_edge.reporting.markup import Markup
from dareq_edge.reporting.records import Report


@dataclass(frozen=True, slots=True)
class Section:
    """What a file under ``sections`` defines as ``SECTION``.

    Attributes:
        order: Sections are shown by increasing order.
        anchor: Its id; charts in it have ids that begin with it.
        title: Its heading.
        body: Its content; ``None`` where the report has nothing for it.
    """

    order: int
    anchor: str
    title: str
    body: Callable[[Report], Markup | None]
