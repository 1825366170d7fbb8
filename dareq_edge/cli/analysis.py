"""The table and the plot of an analysis: entropy of every block, the thresholds, and what the rule decides."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dareq_edge.allocation.analysis import decision

if TYPE_CHECKING:
    from pathlib import Path

    from dareq_edge.allocation.analysis import Analysis

_COLORS = {"raw": "C0", "8": "C1", "4": "C2"}
_DIGITS = 12  # of an entropy: blocks of a large model differ in the ninth


def analysis_table(found: Analysis) -> RenderableType:
    """One row per block, the thresholds, and how many blocks got what."""
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    measured = found.entropies is not None
    for name in ("block", "parameters", *(("entropy, nats", "- mean, 1e-6") if measured else ()), "decision"):
        table.add_column(name, justify="right", no_wrap=True)
    mean = statistics.fmean(found.entropies) if found.entropies else 0.0
    for i, (size, bits) in enumerate(zip(found.parameters, found.bits, strict=True)):
        cells = [str(i), f"{size:,}"]
        if found.entropies:
            cells += [f"{found.entropies[i]:.{_DIGITS}f}", f"{1e6 * (found.entropies[i] - mean):+,.4f}"]
        table.add_row(*cells, decision(bits))
    lines = [f"{name}: {value:.{_DIGITS}f}" for name, value in found.thresholds.items()]
    kinds = ", ".join(
        f"{count} {'raw' if bits == 'raw' else f'in {bits} bits'}" for bits, count in found.counts.items()
    )
    epsilon = f", epsilon {found.epsilon:g}" if measured else ", weights not read"
    lines.append(
        f"rule {found.rule}{epsilon}: of {len(found.bits)} blocks {kinds}; {found.bits_per_weight:.2f} bits per"
    )
    lines[-1] += " weight in blocks (raw counted as 16, scales not counted)"
    return Group(table, *(Text(line) for line in lines))


def draw(found: Analysis, path: Path) -> None:
    """Draw block entropies against the thresholds.

    Args:
        found: An analysis with entropies.
        path: A .png or .svg file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    assert found.entropies is not None
    mean = statistics.fmean(found.entropies)
    spread = max(abs(h - mean) for h in found.entropies)
    exponent = math.floor(math.log10(spread)) if spread else 0
    unit = 10.0**exponent
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    heights = [(h - mean) / unit for h in found.entropies]
    axes.plot(range(len(heights)), heights, color="0.7", lw=1, zorder=1)
    for kind in found.counts:
        blocks = [b for b, bits in enumerate(found.bits) if decision(bits) == kind]
        label = kind if kind == "raw" else f"{kind} bits"
        axes.scatter(blocks, [heights[b] for b in blocks], s=30, color=_COLORS.get(kind, "C3"), label=label, zorder=2)
    for (name, value), style in zip(found.thresholds.items(), ("--", ":"), strict=False):
        axes.axhline((value - mean) / unit, color="black", lw=1, ls=style, label=name)
    axes.set_xlabel("decoder block")
    axes.set_ylabel(f"entropy - {mean:.8f}, in 1e{exponent} nats")
    axes.set_title(
        f"{found.model.rstrip('/').split('/')[-1]}, rule {found.rule}, epsilon {found.epsilon:g}", fontsize=10
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)
