"""Perplexity of every model, and the chain of comparisons that the verdict rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dareq_edge.reporting.charts.frame import Words
from dareq_edge.reporting.charts.intervals import Interval, intervals
from dareq_edge.reporting.markup import Markup, el, join
from dareq_edge.reporting.numbers import number, plus_minus, short
from dareq_edge.reporting.records import Report
from dareq_edge.reporting.section import Section
from dareq_edge.reporting.table import table

if TYPE_CHECKING:
    from dareq_edge.report import ScoreReport
    from dareq_runtime.verdict import LinkReport

_LARGEST = 1e100  # what can be drawn; the table has the rest


def body(report: Report) -> Markup | None:
    """Points with error bars, then the links."""
    if not report.scores:
        return None
    first = report.scores[0]
    about = f"Protocol {first.protocol}, {first.tokens:,} predicted tokens; bars and ± are one standard error."
    parts = [_scores(report.scores), el("p", about, class_="soft")]
    if report.links:
        parts += [el("h3", "Parity chain"), _links(report.links), el("p", _CHAIN, class_="soft")]
    return join(*parts)


def _scores(scores: tuple[ScoreReport, ...]) -> Markup:
    rows = [Interval(s.label, s.ppl, s.stderr, f"{s.ppl:,.3f} ± {short(s.stderr)}") for s in scores]
    cells = [
        (s.label, number(s.ppl), number(s.stderr), number(s.bits_per_byte), number(s.tokens, "{:,}"), s.protocol)
        for s in scores
    ]
    columns = ("model", "perplexity", "± error", "bits per byte", "tokens", "protocol")
    numbers = table("Perplexity", columns, cells, words=(0, 5))
    said = "; ".join(f"{s.label} {s.ppl:,.3f}" for s in scores)
    drawn = [row for row in rows if abs(row.value) + abs(row.error) < _LARGEST]
    if not drawn:
        return numbers
    return intervals(Words("quality-ppl", "Perplexity", f"{said}."), drawn, numbers=numbers, open_=True)


def _links(links: tuple[LinkReport, ...]) -> Markup:
    columns = ("link", "perplexity", "KL mean, nats", "KL 99 %", "same first choice", "allowed", "verdict")
    rows = [
        (
            f"{k.reference} → {k.subject}",
            el("span", plus_minus(k.delta_ppl, k.delta_ppl_stderr, "{:+.4f}", 100), " %"),
            number(k.kl_mean, "{:.1e}"),
            number(k.kl_p99, "{:.1e}"),
            number(k.top1_agreement, "{:.1f} %", 100),
            number(k.relative_ppl, "±{:g} %", 100),
            _judged(k),
        )
        for k in links
    ]
    return table("Links of the parity chain", columns, rows)


def _judged(link: LinkReport) -> Markup:
    if link.relative_ppl is None:
        return el("span", "informs", class_="soft")
    return el("span", "ok" if link.passed else "BROKEN", class_="good" if link.passed else "bad")


_CHAIN = (
    "Each link compares two neighbours on the same tokens. The first is the price of quantization and has no "
    "tolerance; the others say whether the exported graph, and this machine's kernels, compute what was quantized."
)
SECTION = Section(20, "quality", "Perplexity and parity", body)
