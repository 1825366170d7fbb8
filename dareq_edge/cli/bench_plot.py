"""The plot of a benchmark: bars per contestant for prefill, decode, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dareq_runtime.bench.standings import Bench, Standing

_GROUP = 0.8  # width of a group of bars
_UNSURE = {"ecolor": "0.25", "elinewidth": 1, "capsize": 2}


def draw(bench: Bench, path: Path) -> None:
    """Draw every contestant: medians as bars, least to largest over the rounds as their whiskers.

    Args:
        bench: The benchmark.
        path: A .png or .svg file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = []
    if bench.lengths.prompts:
        groups = [(f"{n:,}", f"prefill/{n}") for n in bench.lengths.prompts]
        panels.append(("prefill, ms (shorter is better)", "prompt, tokens", groups, 1e3))
    if bench.lengths.contexts:
        groups = [(f"{c:,}", f"decode/{c}") for c in bench.lengths.contexts]
        panels.append(("decode, ms per token (shorter is better)", "context, tokens", groups, 1e3))
    known = [name for name in ("resident", "peak") if name in bench.standings[0].metrics]
    panels.append(("memory and size, MB", "", [("model file", ""), *((name, name) for name in known)], 1e-6))
    figure = Figure(figsize=(4.4 * len(panels), 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for i, (title, label, groups, factor) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        _bars(axes, bench.standings, groups, factor)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(label)
        if title.startswith("decode"):
            _floors(axes, [1e3 * bench.floor(standing) for standing in bench.standings], len(groups))
    handles, labels = max((axes.get_legend_handles_labels() for axes in figure.axes), key=lambda found: len(found[1]))
    figure.legend(handles, labels, loc="outside upper center", ncols=min(len(labels), 4), fontsize=8, frameon=False)
    figure.savefig(path)


def _bars(axes: Axes, standings: Sequence[Standing], groups: Sequence[tuple[str, str]], factor: float) -> None:
    """One group of bars per (name, metric), one bar per contestant; the metric "" is the size of the model file."""
    width = _GROUP / len(standings)
    for j, standing in enumerate(standings):
        spreads = [standing.metrics.get(metric) for _, metric in groups]
        middle = [factor * (standing.file_bytes if s is None else s.median) for s in spreads]
        below = [0.0 if s is None else factor * (s.median - s.low) for s in spreads]
        above = [0.0 if s is None else factor * (s.high - s.median) for s in spreads]
        where = _places(j, len(standings), len(groups))
        color = f"C{j % 10}"
        axes.bar(
            where, middle, width, label=standing.entrant.label, color=color, yerr=[below, above], error_kw=_UNSURE
        )
    axes.set_xticks(range(len(groups)), [name for name, _ in groups])
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _floors(axes: Axes, floors: Sequence[float], groups: int) -> None:
    """A line across every bar of a contestant at its floor."""
    half = _GROUP / len(floors) / 2
    for j, floor in enumerate(floors):
        where = _places(j, len(floors), groups)
        lines = axes.hlines([floor] * groups, [x - half for x in where], [x + half for x in where], "black", lw=1.2)
        if j == 0:
            lines.set_label("weights over memory bandwidth")


def _places(j: int, bars: int, groups: int) -> list[float]:
    """Middle of the j-th of ``bars`` bars in every group."""
    return [i + (j - (bars - 1) / 2) * _GROUP / bars for i in range(groups)]
