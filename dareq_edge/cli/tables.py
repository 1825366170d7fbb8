"""Tables that people read."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dareq_edge.manifest import TensorEntry
    from dareq_edge.report import ScoreReport
    from dareq_export.operators import GraphSummary
    from dareq_runtime.verdict import ParityReport


def megabytes(size: int) -> str:
    """Decimal megabytes, e.g. "65.81 MB"."""
    return f"{size / 1e6:,.2f} MB"


def score_table(scores: Sequence[ScoreReport]) -> RenderableType:
    """Perplexity of one or several models."""
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("model")
    for name in ("perplexity", "± error", "bits per byte", "tokens"):
        table.add_column(name, justify="right")
    for s in scores:
        bits = "" if s.bits_per_byte is None else f"{s.bits_per_byte:.4f}"
        table.add_row(s.label, f"{s.ppl:,.4f}", f"{s.stderr:,.4f}", bits, f"{s.tokens:,}")
    table.caption = scores[0].protocol if scores else None
    return table


def parity_table(report: ParityReport) -> RenderableType:
    """Scores, links and the verdict."""
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("link", no_wrap=True)
    for name in ("perplexity", "KL mean", "KL 99 %", "top-1", "allowed"):
        table.add_column(name, justify="right", no_wrap=True)
    for link in report.links:
        error = "" if link.delta_ppl_stderr is None else f" ± {100 * link.delta_ppl_stderr:.4f}"
        table.add_row(
            f"{link.reference}\n→ {link.subject}",
            f"{100 * link.delta_ppl:+.4f}{error} %",
            _optional(link.kl_mean, 1, "{:.1e}"),
            _optional(link.kl_p99, 1, "{:.1e}"),
            _optional(link.top1_agreement, 100, "{:.1f} %"),
            _optional(link.relative_ppl, 100, "{:g} % ok" if link.passed else "{:g} % BROKEN"),
        )
    return Group(score_table(report.scores), table, verdict(report))


def verdict(report: ParityReport) -> Text:
    """One line: passed, or the link that broke."""
    if report.passed:
        return Text("parity: passed, what runs is what was quantized", "bold green")
    return Text("parity: FAILED, " + "; ".join(report.reasons), "bold red")


def size_table(rows: Sequence[tuple[str, int]], *, ratio: bool = True) -> RenderableType:
    """Bytes on disk, with how much smaller each row is than the first."""
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    for name in ("on disk", "bytes", "size", "smaller")[: 4 if ratio else 3]:
        table.add_column(name, justify="left" if name == "on disk" else "right")
    for name, size in rows:
        cells = [name, f"{size:,}", megabytes(size), f"{rows[0][1] / max(size, 1):.2f} x"]
        table.add_row(*cells[: 4 if ratio else 3])
    return table


def tensor_table(tensors: Mapping[str, TensorEntry], *, summary: bool) -> RenderableType:
    """One row per tensor, or per kind of tensor."""
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    columns = ("kind", "tensors") if summary else ("tensor", "shape")
    for name in columns:
        table.add_column(name, overflow="fold")
    for name in ("bits", "scheme", "method", "bytes"):
        table.add_column(name, justify="right")
    if summary:
        kinds: dict[tuple[str, int, str, str], list[int]] = defaultdict(list)
        for entry in tensors.values():
            kind = "quantized" if entry.method else "float"
            kinds[kind, entry.bits, entry.scheme, entry.method or ""].append(0 if entry.shares else entry.bytes)
        for (kind, bits, scheme, method), sizes in sorted(kinds.items(), key=lambda item: -sum(item[1])):
            table.add_row(kind, str(len(sizes)), str(bits), scheme, method, f"{sum(sizes):,}")
        return table
    for name, entry in tensors.items():
        size = f"shares {entry.shares}" if entry.shares else f"{entry.bytes:,}"
        table.add_row(name, "x".join(map(str, entry.shape)), str(entry.bits), entry.scheme, entry.method or "", size)
    return table


def operator_table(summary: GraphSummary) -> RenderableType:
    """Operators per token, by kind, and how they are spread over the layers."""
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("operator")
    for name in ("per token", "per layer", "outside layers"):
        table.add_column(name, justify="right")
    for o in summary.operators:
        table.add_row(o.name, f"{o.count:,}", f"{o.per_layer}", f"{o.count - summary.layers * o.per_layer}")
    spread = f"{summary.layers} layers of {summary.per_layer}, {summary.outside} outside"
    return Group(table, Text(f"{summary.total:,} operators per token: {spread}"))


def _optional(value: float | None, factor: float, form: str) -> str:
    return "" if value is None else form.format(factor * value)
