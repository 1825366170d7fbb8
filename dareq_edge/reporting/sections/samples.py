"""Generated text side by side."""

from __future__ import annotations

from dareq_edge.reporting.markup import Markup, el, join
from dareq_edge.reporting.numbers import number
from dareq_edge.reporting.records import Report, Sample
from dareq_edge.reporting.section import Section


def body(report: Report) -> Markup | None:
    """One box per model."""
    found = report.samples
    if found is None or not found.rows:
        return None
    first = found.rows[0].label
    boxes = [_box(sample, found.prompt, first) for sample in found.rows]
    return join(el("p", found.how, class_="soft"), el("div", *boxes, class_="samples"))


def _box(sample: Sample, prompt: str, first: str) -> Markup:
    count = len(sample.ids)
    said = el("span", number(count, "{}"), " tokens")
    if sample.label != first:
        said = el("span", "first ", number(sample.same, "{}"), f" of {count} tokens as {first}")
    return el("article", el("h3", sample.label), el("p", el("b", prompt), sample.text, dir="auto"), el("small", said))


SECTION = Section(60, "samples", "Generated text", body)
