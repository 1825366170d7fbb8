"""What a person reads of a reproduction: the paper's, the literature's and our figures side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dareq_edge.comparison.published import LITERATURE, MODELS, PAPER

if TYPE_CHECKING:
    from dareq_edge.cli.reproduction import Line, Reproduction
    from dareq_edge.comparison.records import Row
    from dareq_runtime.candidates import Candidate

_NEAREST = 8


def reproduction_table(found: Reproduction) -> RenderableType:
    """Perplexities and sizes, the literature behind them, and the candidate protocols nearest to the paper."""
    which = [t - 1 for t in found.tables]
    label, score = next(iter(found.comparison.reference.items()))
    window = found.comparison.window
    note = (
        f"ours: {found.model} on {label}, {score.tokens:,} predicted tokens in windows of {window} (protocol gptq), "
        "decoder linears and weights only; paper: WikiText-2, its own protocol, MB of 10^6 bytes; counted as there: "
        "linears without scales, those of DARE-Q not at all; stored: all weights, the rest as in the checkpoint"
    )
    shown: list[RenderableType] = [_scores(found, which), _sizes(found, which), Text(note, "dim")]
    shown.append(_literature(found, which))
    if found.candidates:
        shown += [_protocols(found.candidates, which)]
    return Group(*shown)


def _scores(found: Reproduction, which: Sequence[int]) -> Table:
    table = _table("perplexity")
    for name in (*(f"paper {_short(i)}" for i in which), "ours", "against fp32"):
        table.add_column(name, justify="right", no_wrap=name != "ours")
    for line, row in found.rows:
        paper = PAPER.get(line.paper)
        table.add_row(line.label, *(paper.ppl[i] if paper else "" for i in which), *_ours(found, line, row)[:2])
    return table


def _sizes(found: Reproduction, which: Sequence[int]) -> Table:
    table = _table("size")
    for name in (*(f"paper {_short(i)}" for i in which), "counted as there", "stored", "bits"):
        table.add_column(name, justify="right", no_wrap=True)
    for line, row in found.rows:
        paper = PAPER.get(line.paper)
        printed = (f"{paper.size_mb[i]} MB" if paper else "" for i in which)
        counted = _megabytes(found.counts.sizes.get(line.paper))
        table.add_row(line.label, *printed, counted, *_ours(found, line, row)[2:])
    return table


def _short(index: int) -> str:
    """A model's name without its owner's."""
    return MODELS[index].partition("/")[2]


def _ours(found: Reproduction, line: Line, row: Row | str | None) -> list[str]:
    """Perplexity, against fp32, stored bytes, bits per weight."""
    text = found.comparison.main_text
    if row is None:
        score = found.comparison.reference[text]
        size = _megabytes(found.comparison.reference_bytes)
        return [f"{score.ppl:,.2f} ± {score.stderr:,.2f}", "", size, f"{found.comparison.reference_bits:.2f}"]
    if isinstance(row, str):
        return [row, "", "", ""]
    if row.failed is not None:
        return [f"failed: {row.failed}", "", "", ""]
    summary, made = row.summary(text), row.production()
    coded = made.coded_bytes is not None and "entquant" in line.recipe  # the one row that is meant to be packed
    stored = made.coded_bytes if coded else made.weight_bytes
    bits = made.coded_bits_per_weight if coded else made.bits_per_weight
    delta = f"{100 * summary.delta_ppl:+,.2f} ± {100 * summary.delta_stderr:,.2f} %"
    return [f"{summary.ppl:,.2f} ± {summary.stderr:,.2f}", delta, _megabytes(stored), f"{bits:.2f}"]


def _literature(found: Reproduction, which: Sequence[int]) -> Table:
    """What others print under GPTQ's protocol."""
    table = _table("literature (WikiText-2, windows of 2,048)")
    for i in which:
        table.add_column(_short(i), justify="right")
    table.add_column("source")
    for key in dict.fromkeys(line.literature for line, _ in found.rows if line.literature):
        for printed in LITERATURE[key]:
            if any(printed.ppl[i] is not None for i in which):
                table.add_row(printed.what, *(printed.ppl[i] or "" for i in which), printed.source)
    return table


def _protocols(found: Iterable[Candidate], which: Sequence[int]) -> Table:
    """The float model under the candidates for the paper's protocol, the nearest to its figures first."""
    targets = [float(PAPER["fp32"].ppl[i]) for i in which]

    def distance(candidate: Candidate) -> float:
        return sum(abs(math.log(candidate.ppl / target)) for target in targets)

    wanted = ", ".join(f"{t:.2f} ({MODELS[i].partition('/')[2]})" for i, t in zip(which, targets, strict=True))
    table = _table(f"protocol; the paper's fp32 is {wanted}")
    for name in ("ppl", "texts", "tokens"):
        table.add_column(name, justify="right")
    for candidate in sorted(found, key=distance)[:_NEAREST]:
        hit = any(f"{candidate.ppl:.2f}" == PAPER["fp32"].ppl[i] for i in which)
        table.add_row(
            candidate.name + (" <- to two decimals" if hit else ""),
            f"{candidate.ppl:,.2f}",
            f"{candidate.texts:,}",
            f"{candidate.tokens:,}",
        )
    return table


def _table(first: str) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column(first)
    return table


def _megabytes(size: float | None) -> str:
    return "" if size is None else f"{size / 1e6:,.2f} MB"
