"""dareq-edge analyze."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dareq_edge.cli import console, options
from dareq_edge.errors import CheckpointError, SpecError

if TYPE_CHECKING:
    from dareq_edge.allocation.analysis import Analysis
    from dareq_edge.allocation.rules import Rule

_MEASURED, _FAST = "ewq", "fastewq"  # what decides unless told otherwise

RuleName = Annotated[
    str | None,
    typer.Option(
        "--rule",
        metavar="NAME[+SETTING=VALUE…]",
        help=f"What decides; ewq by default, fastewq with --fast; names: {', '.join(options.RULES)}.",
        autocompletion=lambda: options.RULES,
    ),
]
Fast = Annotated[bool, typer.Option("--fast", help="Read config.json only, no weights.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw block entropies and the thresholds: .png or .svg.")]


def analyze(
    model: options.Model,
    rule: RuleName = None,
    fast: Fast = False,
    plot: Plot = None,
    threads: options.Threads = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Entropy of every decoder block, and how many bits a rule gives it: raw (float), 8, or fewer.

    \b
    Examples:
      dareq-edge analyze facebook/opt-125m
      dareq-edge analyze ./my-opt --plot entropy.png
      dareq-edge analyze ./my-opt --rule ewq+deviations=0.65+decision=percentile --json
      dareq-edge analyze ./my-opt --fast
    """
    from dareq_edge.allocation.rules import parse
    from dareq_edge.cli.analysis import analysis_table, draw
    from dareq_edge.cli.plot import check_plot

    if plot is not None:
        if fast:
            raise SpecError("--plot draws entropies, which --fast does not measure; drop one of them")
        check_plot(plot)
    written = rule or (_FAST if fast else _MEASURED)
    chosen = parse(written)
    if fast:
        found = _fast(model, revision, chosen, written, trust_remote_code=trust_remote_code)
    else:
        console.quiet_libraries(threads)
        found = _measured(model, revision, chosen, written, trust_remote_code=trust_remote_code)
    console.result(found.to_json(), analysis_table(found), as_json=json)
    if plot is not None:
        draw(found, plot)


def _fast(model: str, revision: str | None, rule: Rule, written: str, *, trust_remote_code: bool) -> Analysis:
    """From config.json alone: no torch, no weights."""
    from dareq_edge.allocation.analysis import analyze_facts
    from dareq_edge.allocation.facts import facts_of_config
    from dareq_edge.hub import locate

    folder, _ = locate(model, revision, config_only=True)
    facts = facts_of_config(folder, trust_remote_code=trust_remote_code, quick=not trust_remote_code)
    return analyze_facts(model, facts, rule, written)


def _measured(model: str, revision: str | None, rule: Rule, written: str, *, trust_remote_code: bool) -> Analysis:
    """With the entropies of a float checkpoint."""
    from dareq_edge.allocation.analysis import analyze_checkpoint
    from dareq_edge.allocation.facts import facts_of_config
    from dareq_edge.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(model, revision=revision, trust_remote_code=trust_remote_code)
    if checkpoint.quantization is not None:
        raise CheckpointError(f"{model} is quantized already; entropies are those of float weights, give its source")
    facts = facts_of_config(checkpoint.config, trust_remote_code=trust_remote_code)
    with console.progress_bars() as progress:
        return analyze_checkpoint(checkpoint, facts, rule, written, progress, trust_remote_code=trust_remote_code)
