"""Bits of every matrix, and the entropies of the blocks that rules of allocation go by."""

from __future__ import annotations

import statistics
from collections import Counter

from dareq_edge.reporting.charts.frame import Words
from dareq_edge.reporting.charts.grid import grid
from dareq_edge.reporting.charts.lines import Point, Series, lines
from dareq_edge.reporting.kinds import short_names
from dareq_edge.reporting.markup import Markup, el, join
from dareq_edge.reporting.numbers import number
from dareq_edge.reporting.records import BlockEntropies, Report
from dareq_edge.reporting.section import Section
from dareq_edge.reporting.statistics import MatrixStats
from dareq_edge.reporting.table import table


def body(report: Report) -> Markup | None:
    """What was chosen, and what the float model's blocks look like."""
    parts = []
    if report.weights is not None and report.weights.matrices:
        parts.append(_chosen(report.weights.matrices))
    if report.entropies is not None:
        parts.append(_entropies(report.entropies))
    return join(*parts) if parts else None


def _chosen(matrices: tuple[MatrixStats, ...]) -> Markup:
    names = short_names(matrices)
    inside = [m for m in matrices if m.block is not None]
    counts = Counter((m.bits, _form(m)) for m in matrices)
    said = "; ".join(
        f"{n} {'matrix' if n == 1 else 'matrices'} in {bits} bits, a scale per {form}"
        for (bits, form), n in sorted(counts.items())
    )
    columns = ("matrix", "bits", "scale per", "entropy of codes, bits", "weights")
    rows = [
        (m.name, number(m.bits, "{}"), _form(m), number(m.code_bits, "{:.3f}"), number(m.size, "{:,}"))
        for m in matrices
    ]
    numbers = table("Bits per matrix", columns, rows, words=(0, 2))
    if len({m.bits for m in inside}) < 2:
        folded = el("details", el("summary", f"All {len(rows)} matrices"), numbers)
        return join(el("p", f"{said}."), folded)
    blocks = 1 + max(m.block or 0 for m in inside)
    cells = {(names[m.kind], m.block or 0): m.bits for m in inside}
    kinds = list(dict.fromkeys(names[m.kind] for m in inside))
    words = Words("bits-grid", "Bits by matrix and decoder block", f"{said}.")
    return join(grid(words, kinds, blocks, cells, numbers=numbers), el("p", f"{said}."))


def _form(matrix: MatrixStats) -> str:
    return "row" if matrix.group_size is None else f"{matrix.group_size} weights"


def _entropies(found: BlockEntropies) -> Markup:
    """Blocks differ in late digits, so what is drawn is their distance from the mean."""
    mean = statistics.fmean(found.values)
    points = tuple(Point(i, h - mean) for i, h in enumerate(found.values))
    rows = [(f"{i}", number(h, "{:.12f}"), f"{h - mean:+.3e}") for i, h in enumerate(found.values)]
    words = Words(
        "bits-entropy",
        f"Entropy of the float model's blocks, less their mean of {mean:.8f} nats",
        f"One point per block, EWQ's entropy with epsilon {found.epsilon:g}.",
    )
    numbers = table("Entropy of blocks, nats", ("block", "entropy", "less mean"), rows)
    chart = lines(
        words, [Series("entropy", points)], "decoder block", "nats", reference=(0.0, "mean"), numbers=numbers
    )
    return join(chart, el("p", _EWQ, class_="soft"))


_EWQ = (
    "-Σ p ln(p + ε) with p the softmax of all weights of a matrix, weighted over the block's matrices: what the "
    "rules ewq and ewq-ranked go by. A lower entropy means a wider spread of weights."
)
SECTION = Section(50, "bits", "Bits and block entropies", body)
