"""dareq-edge demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dareq_edge.cli import options
from dareq_edge.cli.commands.deploy import run_job
from dareq_edge.cli.evaluation import DataChoice, example
from dareq_edge.cli.recipes import RecipeChoice
from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.manifest import NAME

MAX_TOKENS = 8192
OUT = Path("out/opt-mini-int4")


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to create or replace.")] = Path(
        "out/opt-mini-int4"
    ),
    recipe: options.Recipe = options.DEFAULT_RECIPE,
    json: options.Json = False,
) -> None:
    """Deploy the embedded small OPT: sizes, perplexity, parity and a few generated words.

    \b
    Examples:
      dareq-edge demo
      dareq-edge demo --recipe dareq:weights
      dareq-edge demo --out /tmp/demo --json
    """
    from dareq_edge.cli.deployment import Job
    from dareq_edge.plan import QuantOptions

    model = example("models/opt-mini")
    if model is None or not (model / "config.json").is_file():
        raise CheckpointError(
            "the embedded model is not installed with the package; clone the repository of dareq-edge and run "
            "`make demo` there, or run: dareq-edge deploy facebook/opt-125m --out opt-125m-int4"
        )
    if out.exists() and any(out.iterdir()) and not (out / NAME).is_file():
        raise SpecError(f"{out} is not a folder that dareq-edge wrote; choose another --out")
    job = Job(
        source=str(model),
        out=out,
        options=QuantOptions(table_bits=8, position_bits=8, scale_dtype="bfloat16"),
        recipe=RecipeChoice(recipe).build(),
        data=DataChoice(max_tokens=MAX_TOKENS),
        overwrite=True,
        prompt=options.PROMPT,
    )
    run_job(job, as_json=json)
