"""Tables that scroll in their own box, so that the page never does sideways."""

from __future__ import annotations

from collections.abc import Sequence

from dareq_edge.reporting.markup import Child, Markup, el


def table(
    name: str, columns: Sequence[str], rows: Sequence[Sequence[Child]], *, words: Sequence[int] = (0,)
) -> Markup:
    """A table.

    Args:
        name: What it holds, for readers who do not see it.
        columns: Headings.
        rows: As many cells each; the first is the row's heading.
        words: Columns that hold words, which are aligned to the left.
    """
    kinds = ["words" if i in words else "num" for i in range(len(columns))]
    head = el("tr", *(el("th", c, scope="col", class_=k) for c, k in zip(columns, kinds, strict=True)))
    body = [
        el(
            "tr",
            el("th", row[0], scope="row", class_=kinds[0]),
            *(el("td", cell, class_=k) for cell, k in zip(row[1:], kinds[1:], strict=True)),
        )
        for row in rows
    ]
    inner = el("table", el("caption", name), el("thead", head), el("tbody", *body))
    return el("div", inner, class_="scroll", tabindex="0", role="region", aria_label=name)
