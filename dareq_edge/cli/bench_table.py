"""The tables of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from dareq_edge.cli.benchmark import Outcome
    from dareq_runtime.bench.standings import Bench, Standing
    from dareq_runtime.bench.summary import Spread

Row = Callable[["Standing"], list[tuple[str, str, str]]]
"""Cells of one contestant, each (figure, ratio, spread)."""


def bench_table(found: Outcome) -> RenderableType:
    """Prefill, decode, and what the model takes to start and to keep; one row per contestant in each."""
    bench = found.bench
    shown: list[RenderableType] = []
    if bench.lengths.prompts:
        shown.append(_table(bench, "prefill, ms", [f"{n:,}" for n in bench.lengths.prompts], _prefill))
    if bench.lengths.contexts:
        columns = [*(f"at {c:,}" for c in bench.lengths.contexts), "floor", "reads"]
        shown.append(_table(bench, "decode, ms per token", columns, lambda s: _decode(bench, s)))
    columns = ["first token", "load", "resident", "peak", "model", "folder"]
    shown.append(_table(bench, "ms, then MB", columns, _rest))
    notes = [Text(note, "dim") for note in [_legend(bench), *found.notes]]
    return Group(*shown, *notes)


def _table(bench: Bench, title: str, columns: Sequence[str], row: Row) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column(title, overflow="fold", max_width=30)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for standing in bench.standings:
        cells = row(standing)
        figures = [f"{figure}  {ratio}".rstrip() for figure, ratio, _ in cells]
        table.add_row(standing.entrant.label, *figures)
        if any(spread for *_, spread in cells):
            table.add_row("", *(spread for *_, spread in cells), style="dim", end_section=True)
    return table


def _prefill(standing: Standing) -> list[tuple[str, str, str]]:
    return [_cell(s, 1e3) for name, s in standing.metrics.items() if name.startswith("prefill/")]


def _decode(bench: Bench, standing: Standing) -> list[tuple[str, str, str]]:
    cells = []
    for c in bench.lengths.contexts:
        spread = standing.metrics[f"decode/{c}"]
        figure, ratio, low_high = _cell(spread, 1e3)
        cells.append((f"{figure} ({_figure(1 / spread.median)}/s)", ratio, low_high))
    floor = (_figure(1e3 * bench.floor(standing)), "", "")
    return [*cells, floor, (f"{_figure(standing.read_bytes / 1e6)} MB", "", "")]


def _rest(standing: Standing) -> list[tuple[str, str, str]]:
    factors = {"first_token": 1e3, "load": 1e3, "resident": 1e-6, "peak": 1e-6}
    cells = [_cell(standing.metrics.get(name), factor) for name, factor in factors.items()]
    sizes = [(_figure(size / 1e6), "", "") for size in (standing.file_bytes, standing.folder_bytes)]
    return [*cells, *sizes]


def _cell(spread: Spread | None, factor: float) -> tuple[str, str, str]:
    """Median, ratio and range; a question mark where the system does not tell."""
    if spread is None:
        return "?", "", ""
    ratio = "" if spread.ratio is None else f"{spread.ratio:.2f}x"
    low, high = (_figure(factor * value) for value in (spread.low, spread.high))
    return _figure(factor * spread.median), ratio, "" if spread.low == spread.high else f"{low} to {high}"


def _figure(value: float) -> str:
    """Three significant digits, whole numbers from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _legend(bench: Bench) -> str:
    first, rounds, width = bench.standings[0].entrant.label, len(bench.standings[0].samples), bench.bandwidth
    parts = [
        f"{bench.threads} threads, medians of {rounds} rounds with the least and the largest below"
        if rounds > 1
        else f"{bench.threads} threads, one round",
        *([f"2.00x is twice {first}'s, the median of the rounds' ratios"] if len(bench.standings) > 1 else []),
        "prefill is the time to the first token of a prompt",
        f"first token is that of the first prompt, {bench.lengths.first_prompt} tokens, after loading",
        "resident is after that prompt",
        f"memory was read at {width.median / 1e9:.1f} GB/s ({width.low / 1e9:.1f} to {width.high / 1e9:.1f})",
        "the floor is the weights a token reads over the best of these, keys and values not counted",
    ]
    return "; ".join(parts)
