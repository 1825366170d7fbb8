"""dareq-edge reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dareq_edge.cli import console, options
from dareq_edge.errors import SpecError

Model = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="A hub id or a folder; by default the paper's own, from the hub."),
]
Tables = Annotated[str, typer.Option("--tables", help="1: OPT-125m, 2: OPT-350m; 1,2 for both.")]
Text = Annotated[
    Path | None,
    options.data("What is scored; WikiText-2 for the paper's models, else a text of ours.", "--text"),
]
Calibration = Annotated[
    Path | None, options.data("A text for GPTQ and AWQ, which are left out without one.", "--calibration")
]
MaxTokens = Annotated[int | None, options.data("Score only this many tokens.", "--max-tokens", min=2)]
Here = Annotated[str, typer.Option("--here", help="The recipe of the row 'as recommended here'.")]
Protocols = Annotated[
    bool, typer.Option("--protocols/--no-protocols", help="Try the candidates for the paper's own protocol.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for finished rows: an interrupted run goes on from there."),
]


def reproduce(
    model: Model = None,
    tables: Tables = "1,2",
    text: Text = None,
    calibration: Calibration = None,
    max_tokens: MaxTokens = None,
    here: Here = options.DEFAULT_RECIPE,
    protocols: Protocols = True,
    out: Out = None,
    threads: options.Threads = None,
    json: options.Json = False,
) -> None:
    """The DARE-Q paper's tables on its own models or on yours: its figures, the literature's, and ours.

    A recipe that fails is a row that says why, and makes the exit code 1.

    \b
    Examples:
      dareq-edge reproduce --tables 1 --calibration c4.txt --out rows
      dareq-edge reproduce ./opt-350m --tables 2 --text wiki.test.raw --calibration c4.txt
      dareq-edge reproduce ./my-opt --here dareq:weights --json
    """
    from rich.console import Group

    from dareq_edge.cli.reproduction import Task
    from dareq_edge.cli.reproduction import reproduce as run
    from dareq_edge.cli.reproduction_table import reproduction_table

    console.quiet_libraries(threads)
    parts = tables.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise SpecError(f"--tables is {tables}; give 1, 2 or 1,2")
    numbers = tuple(dict.fromkeys(int(part) for part in parts))
    task = Task(model, numbers, text, calibration, max_tokens, here, out, protocols, threads)
    with console.progress_bars() as progress:
        found = list(run(task, progress))
    shown = Group(*(reproduction_table(one) for one in found))
    console.result({"reproductions": [one.to_json() for one in found]}, shown, as_json=json)
    if any(one.comparison.failed for one in found):
        raise typer.Exit(1)
