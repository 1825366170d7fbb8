"""The table of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from dareq_edge.comparison.records import Comparison, Row

_SCORES = ("perplexity", "± seeds", "against fp32", "KL", "top-1")
_SIZES = ("bits", "coded bits", "weights", "coded", "s", "peak")


def comparison_table(found: Comparison) -> RenderableType:
    """Scores, with several texts one line per text, the last one all of them together; then sizes and costs."""
    tokens = ", ".join(f"{label} {s.tokens:,}" for label, s in found.reference.items())
    note = (
        f"windows of {found.window}, predicted tokens: {tokens}; KL(fp32 || recipe) in nats; against fp32 with the "
        "standard error of paired losses; bits per weight of the linear layers, scales included; coded: with every "
        "quantized matrix as a container holds it; peak memory is of a process that only quantizes"
    )
    if any(not row.storable for row in found.rows):
        note += "; hqq, nf4 and fp4 are only dequantized, no checkpoint holds them, so their size is what it would be"
    failed = [Text(f"{row.variant.label} failed: {row.failed}", "red") for row in found.failed]
    return Group(_scores(found), _sizes(found), Text(note, "dim"), *failed)


def _table() -> Table:
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("recipe", no_wrap=True)
    return table


def _scores(found: Comparison) -> Table:
    """One row per recipe and text."""
    spread = any(len(row.runs) > 1 for row in found.rows)
    texts = list(found.reference)
    table = _table()
    if len(texts) > 1:
        table.add_column("text", overflow="ellipsis", max_width=16, no_wrap=True)
    for name in _SCORES:
        if spread or name != "± seeds":
            table.add_column(name, justify="right", no_wrap=True)
    base = [["fp32", t, f"{s.ppl:,.2f} ± {s.stderr:,.2f}", "", "", "", ""] for t, s in found.reference.items()]
    _add(table, base, spread=spread)
    for row in found.rows:
        if row.failed is None:
            _add(table, [_scored(row, text) for text in texts], spread=spread)
        else:
            table.add_row(f"{row.variant.label}", *([""] if len(texts) > 1 else []), "failed")
    return table


def _add(table: Table, lines: Sequence[Sequence[str]], *, spread: bool) -> None:
    """Add one recipe's lines."""
    several = len(lines) > 1
    for i, (label, text, ppl, seeds, *rest) in enumerate(lines):
        head = [label if i == 0 else "", *([text] if several else [])]
        end = i == len(lines) - 1
        table.add_row(*head, ppl, *([seeds] if spread else []), *rest, end_section=several and end)


def _sizes(found: Comparison) -> Table:
    """One row per recipe that did not fail."""
    table = _table()
    for name in _SIZES:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("fp32", f"{found.reference_bits:.2f}", "", _megabytes(found.reference_bytes))
    for row in found.rows:
        if row.failed is None:
            table.add_row(row.variant.label, *_made(row))
    return table


def _scored(row: Row, text: str) -> list[str]:
    s = row.summary(text)
    return [
        row.variant.label,
        text,
        f"{s.ppl:,.2f} ± {s.stderr:,.2f}",
        "" if s.sd_ppl is None else f"{s.sd_ppl:,.2f}",
        f"{100 * s.delta_ppl:+,.2f} ± {100 * s.delta_stderr:,.2f} %",
        f"{s.kl:.4f}",
        f"{100 * s.top1:.1f} %",
    ]


def _made(row: Row) -> list[str]:
    p = row.production()
    return [
        f"{p.bits_per_weight:.2f}",
        "" if p.coded_bits_per_weight is None else f"{p.coded_bits_per_weight:.2f}",
        _megabytes(p.weight_bytes),
        "" if p.coded_bytes is None else _megabytes(p.coded_bytes),
        f"{p.seconds:,.1f}",
        f"{p.peak_bytes / 1e6:,.0f} MB",
    ]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
