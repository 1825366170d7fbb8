"""Scales of every matrix."""

from __future__ import annotations

from dareq_edge.reporting.charts.frame import Words
from dareq_edge.reporting.charts.lines import Point, lines
from dareq_edge.reporting.kinds import by_block
from dareq_edge.reporting.markup import Markup, el, join
from dareq_edge.reporting.numbers import number, short
from dareq_edge.reporting.records import Report
from dareq_edge.reporting.section import Section
from dareq_edge.reporting.table import table


def body(report: Report) -> Markup | None:
    """Medians by block with the range of nine tenths of the scales, and a row per matrix."""
    if report.weights is None or not report.weights.matrices:
        return None
    matrices = report.weights.matrices
    least, most = min(m.scales.least for m in matrices), max(m.scales.most for m in matrices)
    words = Words(
        "scales-blocks",
        "Scales by block: median, and the range of the middle 90 %",
        f"One line per kind of matrix; all scales lie between {short(least)} and {short(most)}.",
    )
    series = by_block(matrices, lambda m: Point(m.block or 0, m.scales.median, m.scales.low, m.scales.high))
    columns = ("matrix", "scales", "smallest", "5 %", "median", "95 %", "largest")
    rows = [
        (
            m.name,
            number(m.scales.count, "{:,}"),
            *(number(v, "{:.3e}") for v in (s.least, s.low, s.median, s.high, s.most)),
        )
        for m in matrices
        for s in [m.scales]
    ]
    return join(
        lines(words, series, "decoder block", "|scale|") if series else None,
        el("details", el("summary", f"All {len(rows)} matrices"), table("Magnitudes of scales", columns, rows)),
    )


SECTION = Section(40, "scales", "Scales by layer", body)
