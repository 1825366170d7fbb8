"""What the benchmarks of allocation share: options, the comparison itself, its table and plot."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dareq_edge.cli.subjects import Subject


def add_options(parser: argparse.ArgumentParser, rates: str) -> None:
    """Model, texts, rates, and where rows, plot and record go."""
    parser.add_argument("model")
    parser.add_argument("--text", type=Path, action="append", required=True)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--rates", default=rates)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", action="store_true")


def compare(arguments: argparse.Namespace, subjects: Sequence[Subject], *, keep: bool, coded: bool) -> None:
    """Run the comparison, print it, and draw it if that was asked for.

    Args:
        arguments: Of ``add_options``.
        subjects: The rows.
        keep: Keep the checkpoints.
        coded: Whether the plot's bytes are those of coded matrices.
    """
    from dareq_edge.cli import console
    from dareq_edge.cli.comparison import Request, compare_recipes
    from dareq_edge.cli.comparison_table import comparison_table
    from dareq_edge.cli.evaluation import DataChoice
    from dareq_edge.cli.plot import check_plot, draw

    if arguments.plot:
        check_plot(arguments.plot)
    console.quiet_libraries()
    request = Request(
        model=arguments.model,
        revision=None,
        subjects=subjects,
        texts=[DataChoice(text=path, max_tokens=arguments.max_tokens) for path in arguments.text],
        out=arguments.out,
        keep=keep,
    )
    with console.progress_bars() as progress:
        found = compare_recipes(request, progress)
    if arguments.json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        console.result(found.to_json(), comparison_table(found), as_json=False)
    if arguments.plot:
        draw(found, arguments.plot, coded=coded)
