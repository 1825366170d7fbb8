"""Recipes side by side: perplexity against bytes."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from dareq_edge.reporting.charts.frame import Words
from dareq_edge.reporting.charts.lines import Point, Series
from dareq_edge.reporting.charts.scatter import Axes, scatter
from dareq_edge.reporting.markup import Markup, el, join
from dareq_edge.reporting.numbers import number, plus_minus, size
from dareq_edge.reporting.records import Report
from dareq_edge.reporting.section import Section
from dareq_edge.reporting.table import table

if TYPE_CHECKING:
    from dareq_edge.comparison.records import Comparison, Row


def body(report: Report) -> Markup | None:
    """The plane, and a table per text."""
    found = report.comparison
    if found is None:
        return None
    text = found.main_text
    done = [row for row in found.rows if row.failed is None]
    numbers = [_table(found, done, name) for name in found.reference]
    base = found.reference[text].ppl
    curves = tuple(_curves(done, text, base))
    words = Words(
        "tradeoff-plane",
        f"Perplexity against bytes of all weights ({text})",
        "; ".join(f"{r.variant.label}: {r.summary(text).ppl:,.2f}" for r in done) or "no recipe finished",
    )
    axes = Axes("weights, MB", "perplexity; bars: error of the difference to fp32", (base, "float model"))
    failed = [el("li", el("b", row.variant.label), ": ", row.failed) for row in found.failed]
    return join(
        scatter(words, curves, axes) if done else None,
        *numbers,
        _costs(found, done),
        join(el("h3", "Failed"), el("ul", *failed)) if failed else None,
        el("p", f"Windows of {found.window} tokens. {_MEANING}", class_="soft"),
    )


def _curves(rows: list[Row], text: str, base: float) -> list[Series]:
    families: dict[str, list[Point]] = defaultdict(list)
    for row in rows:
        s = row.summary(text)
        error = base * s.delta_stderr
        point = Point(row.production().weight_bytes / 1e6, s.ppl, s.ppl - error, s.ppl + error, row.variant.point)
        families[row.variant.curve].append(point)
    return [Series(name, tuple(sorted(points, key=lambda p: p.x))) for name, points in families.items()]


def _table(found: Comparison, rows: list[Row], text: str) -> Markup:
    columns = ("recipe", "perplexity", "± seeds", "against float, %", "KL, nats", "same first choice")
    base = found.reference[text]
    cells = [("float model", plus_minus(base.ppl, base.stderr, "{:,.3f}"), *[number(None)] * 4)]
    for row in rows:
        s = row.summary(text)
        cells.append(
            (
                row.variant.label,
                plus_minus(s.ppl, s.stderr, "{:,.3f}"),
                number(s.sd_ppl, "{:,.3f}"),
                plus_minus(s.delta_ppl, s.delta_stderr, "{:+,.2f}", 100),
                number(s.kl),
                number(s.top1, "{:.1f} %", 100),
            )
        )
    return table(f"{text}, {base.tokens:,} predicted tokens", columns, cells)


def _costs(found: Comparison, rows: list[Row]) -> Markup:
    columns = ("recipe", "bits per weight", "coded bits", "weights", "coded", "seconds", "peak memory")
    cells = [
        (
            "float model",
            number(found.reference_bits, "{:.2f}"),
            number(None),
            size(found.reference_bytes),
            *[number(None)] * 3,
        )
    ]
    for row in rows:
        p = row.production()
        cells.append(
            (
                row.variant.label,
                number(p.bits_per_weight, "{:.2f}"),
                number(p.coded_bits_per_weight, "{:.2f}"),
                size(p.weight_bytes),
                size(p.coded_bytes),
                number(p.seconds, "{:,.1f}"),
                size(p.peak_bytes),
            )
        )
    return table("Sizes and costs of quantizing", columns, cells)


_MEANING = (
    "KL is that of the float model's predictions from the recipe's, mean per token. Bits per weight are those of the "
    "linear layers, scales included; coded: with every quantized matrix entropy-coded; peak memory is that of a "
    "process that does nothing but quantize."
)
SECTION = Section(15, "tradeoff", "Perplexity against bytes", body)
