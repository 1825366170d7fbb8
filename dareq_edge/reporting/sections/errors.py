"""Recipes side by side: what each left of every matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dareq_edge.comparison.matrices import entropies, pooled
from dareq_edge.reporting.charts.frame import Words
from dareq_edge.reporting.charts.lines import Point, Series, lines
from dareq_edge.reporting.markup import Markup, el, join
from dareq_edge.reporting.numbers import number
from dareq_edge.reporting.records import Report
from dareq_edge.reporting.section import Section
from dareq_edge.reporting.table import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dareq_edge.comparison.matrices import WeightErrors

_DRAWN = 8  # as many as there are colours


def body(report: Report) -> Markup | None:
    """A chart by block, a row per recipe, and a table of every matrix."""
    if report.comparison is None:
        return None
    text = report.comparison.main_text
    rows = [(row, row.production().errors) for row in report.comparison.rows if row.failed is None]
    known = {row.variant.label: found for row, found in rows if found is not None and found.matrices}
    if not known:
        return None
    quality = {row.variant.label: row.summary(text).ppl for row, _ in rows}
    drawn = sorted(sorted(known, key=quality.__getitem__)[:_DRAWN], key=list(known).index)
    missing = [row.variant.label for row, found in rows if found is None]
    return join(
        _charts({name: known[name] for name in drawn}, len(known)),
        _summary(known),
        el("details", el("summary", "Every matrix"), _matrices(known)),
        el("p", _MEANING, class_="soft"),
        el("p", f"Not known of {', '.join(missing)}: finished by an older version.") if missing else None,
    )


def _charts(drawn: Mapping[str, WeightErrors], known: int) -> Markup | None:
    """Errors and entropies; nothing for a model whose layers are in no list."""
    left_out = f"; the {len(drawn)} of {known} with the lowest perplexity" if len(drawn) < known else ""
    one = f"One line per recipe{left_out}; all matrices of a decoder block together"
    words = Words("errors-blocks", "Weight error by block, ‖W - Ŵ‖ / ‖W‖", f"{one}.")
    spread = Words("errors-entropy", "Residual entropy by block, after quantization", f"{one}, nats.")
    blocks = {name: found.by_block() for name, found in drawn.items()}
    if not any(blocks.values()):
        return None
    errors = [Series(n, tuple(Point(i, pooled(m)) for i, m in b.items())) for n, b in blocks.items()]
    after = [Series(n, tuple(Point(i, entropies(m)[1]) for i, m in b.items())) for n, b in blocks.items()]
    charts = (
        lines(words, errors, "decoder block", "relative error"),
        lines(spread, after, "decoder block", "entropy, nats"),
    )
    return el("div", *charts, class_="charts")


def _summary(known: Mapping[str, WeightErrors]) -> Markup:
    columns = (
        "recipe",
        "error, %",
        "SNR, dB",
        "largest, %",
        "in",
        "entropy before",
        "entropy after",
        "tensors changed",
    )
    rows = []
    for name, found in known.items():
        before, after = entropies(found.matrices)
        error, worst = pooled(found.matrices), found.worst
        rows.append(
            (
                name,
                number(error, "{:.3f}", 100),
                f"{-20 * math.log10(error):.2f}" if error else "inf",
                number(worst.relative, "{:.3f}", 100),
                worst.name,
                number(before, "{:.4f}"),
                number(after, "{:.4f}"),
                number(found.changed, "{:,}"),
            )
        )
    name = "Weight error and residual entropy (nats) of all quantized matrices together"
    return table(name, columns, rows, words=(0, 4))


def _matrices(known: Mapping[str, WeightErrors]) -> Markup:
    values = {name: {m.name: m.relative for m in found.matrices} for name, found in known.items()}
    names = list(dict.fromkeys(m for found in values.values() for m in found))
    rows = [(m, *(number(found.get(m), "{:.3f}", 100) for found in values.values())) for m in names]
    return table("Weight error of every matrix, %", ("matrix", *values), rows)


_MEANING = (
    "W are the float weights, Ŵ what is computed with in their place; the entropy is that of 128 equal bins between "
    "the extremes, of the weights before and of the residuals after, mean over weights. Recipes that move factors "
    "from a norm into the matrices behind it (awq; other tensors change too then) or from one matrix into another "
    "(dareq-entropy) show that as weight error here, although the model computes the same. A smaller weight error is "
    "not always a better model; perplexity decides."
)
SECTION = Section(31, "errors", "Weight error by recipe", body)
