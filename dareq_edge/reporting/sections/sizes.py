"""Bytes on disk, to download and in memory, against fp32."""

from __future__ import annotations

from collections.abc import Sequence

from dareq_edge.reporting.charts.bars import Bar, bars
from dareq_edge.reporting.charts.frame import Words
from dareq_edge.reporting.markup import Markup, el, join
from dareq_edge.reporting.numbers import megabytes, number, size
from dareq_edge.reporting.records import Report, SizeRow
from dareq_edge.reporting.section import Section
from dareq_edge.reporting.table import table


def body(report: Report) -> Markup | None:
    """Bars, and a table with exact bytes."""
    if not report.sizes:
        return None
    base = report.sizes[0]
    stored = [r for r in report.sizes if r.kind != "memory"]
    memory = [r for r in report.sizes if r.kind == "memory"]
    cells = [(r.label, size(r.bytes), number(r.bytes, "{:,}"), _share(r, base), r.note) for r in report.sizes]
    numbers = table("Sizes", ("what", "size", "bytes", "of fp32", "from"), cells, words=(0, 4))
    smallest = min(stored[1:], key=lambda r: r.bytes, default=base)
    words = Words(
        "sizes-bars",
        "Bytes against fp32",
        f"Bars from 0 to {megabytes(max(r.bytes for r in stored))}; the smallest is {smallest.label}, "
        f"{megabytes(smallest.bytes)}.",
    )
    said = "; ".join(f"{r.label} {megabytes(r.bytes)}" for r in memory)
    return join(
        bars(words, _bars(stored, base)),
        bars(Words("sizes-memory", "Memory", f"{said}."), _bars(memory, base)) if memory else None,
        numbers,
        el("p", "MB are 10⁶ bytes.", class_="soft"),
    )


def _bars(rows: Sequence[SizeRow], base: SizeRow) -> list[Bar]:
    return [Bar(r.label, r.bytes, _shown(r, base), r.kind) for r in rows]


def _shown(row: SizeRow, base: SizeRow) -> str:
    if row.kind in ("base", "memory") or not base.bytes:
        return megabytes(row.bytes)
    return f"{megabytes(row.bytes)}, {100 * row.bytes / base.bytes:.1f} %"


def _share(row: SizeRow, base: SizeRow) -> Markup:
    if row.kind == "memory" or not base.bytes:
        return number(None)
    return number(row.bytes / base.bytes, "{:.1f} %", 100)


SECTION = Section(10, "sizes", "Size", body)
