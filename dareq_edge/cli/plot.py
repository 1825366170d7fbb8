"""The plot of a comparison: perplexity against bytes, one curve per recipe and tier; and what every plot needs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.errors import SpecError

if TYPE_CHECKING:
    from dareq_edge.comparison.records import Comparison, Row

_WIDE = 3.0  # largest perplexity over smallest, from where a logarithmic axis reads better


def check_plot(path: Path) -> None:
    """Refuse before any work what could not be drawn after it.

    Raises:
        SpecError: The file's name or folder cannot work.
        ImportError: matplotlib is not installed.
    """
    import matplotlib.figure  # noqa: F401

    if path.suffix not in (".png", ".svg"):
        raise SpecError(f"--plot is {path}; name it .png or .svg")
    if not path.parent.is_dir():
        raise SpecError(f"there is no folder {path.parent} for --plot {path.name}; create it first")


def draw(found: Comparison, path: Path, *, coded: bool = False) -> None:
    """Draw every row that did not fail, on the pooled text.

    Args:
        found: The comparison.
        path: A .png or .svg file.
        coded: Bytes are those with matrices coded, where a row has them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    text = found.main_text
    families: dict[str, list[Row]] = defaultdict(list)
    for row in found.rows:
        if row.failed is None:
            families[row.variant.curve].append(row)
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    base = found.reference[text].ppl
    highest = base
    for i, (family, rows) in enumerate(families.items()):
        rows.sort(key=lambda row: _bytes(row, coded=coded))
        sizes = [_bytes(row, coded=coded) / 1e6 for row in rows]
        scores = [row.summary(text) for row in rows]
        errors = [base * s.delta_stderr for s in scores]
        color, values = f"C{i % 10}", [s.ppl for s in scores]
        axes.errorbar(sizes, values, yerr=errors, label=family, marker="o", ms=4, lw=1, capsize=2, color=color)
        offset = (4, 4) if i % 2 == 0 else (4, -10)
        for row, x, s in zip(rows, sizes, scores, strict=True):
            point = row.variant.point
            axes.annotate(point, (x, s.ppl), offset, textcoords="offset points", fontsize=7, color=color)
            highest = max(highest, s.ppl)
    axes.axhline(base, color="black", lw=1, ls="--", label=f"fp32, {found.reference_bytes / 1e6:,.1f} MB")
    if highest > _WIDE * base:
        axes.set_yscale("log")
    axes.margins(x=0.1)
    axes.set_xlabel(f"weights, MB (10⁶ bytes{', matrices coded' if coded else ''})")
    axes.set_ylabel(f"perplexity ({text}; error of the difference to fp32)")
    axes.set_title(f"{Path(found.model).name}, {found.reference[text].tokens:,} tokens", fontsize=10)
    axes.grid(alpha=0.3)
    if families:
        axes.legend(fontsize=8)
    figure.savefig(path)


def _bytes(row: Row, *, coded: bool) -> int:
    """Of all weights; coded, if asked for and known."""
    made = row.production()
    return made.coded_bytes if coded and made.coded_bytes is not None else made.weight_bytes
