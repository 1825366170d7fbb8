"""dareq-edge bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dareq_edge.cli import console, options
from dareq_edge.errors import SpecError

_WHAT, _PEERS = "What is measured", "Peers"

Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        metavar="PEER",
        rich_help_panel=_PEERS,
        help="fp32 (optimum's export), ort-int4 (onnxruntime's quantizer on it), or a folder: one of ours, plain "
        "ONNX, or onnxruntime-genai's; may be repeated.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        rich_help_panel=_PEERS,
        help="Float model, hub id or folder, that fp32 and ort-int4 are made from; random weights of FOLDER's shape "
        "without it.",
    ),
]
Work = Annotated[
    Path | None, typer.Option("--work", rich_help_panel=_PEERS, help="Folder that keeps fp32 and ort-int4 for later.")
]
Rounds = Annotated[
    int, typer.Option("--rounds", min=1, rich_help_panel=_WHAT, help="Times that every contestant is measured.")
]
Prompts = Annotated[str, typer.Option("--prompts", rich_help_panel=_WHAT, help="Prompt lengths to read, tokens.")]
Contexts = Annotated[
    str, typer.Option("--contexts", rich_help_panel=_WHAT, help="Tokens before the steps that are timed.")
]
NewTokens = Annotated[int, typer.Option("--new-tokens", min=1, rich_help_panel=_WHAT, help="Steps after each.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw it: .png or .svg.")]


def bench(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to measure.")],
    against: Against = None,
    model: Model = None,
    revision: options.Revision = None,
    work: Work = None,
    rounds: Rounds = 3,
    prompts: Prompts = "16,128,512,1024",
    contexts: Contexts = "16,128,1024",
    new_tokens: NewTokens = 32,
    threads: options.Threads = None,
    plot: Plot = None,
    json: options.Json = False,
) -> None:
    """How fast a folder is on this machine, against others: prefill, decode, load, memory and size in one run.

    Every contestant is measured in a fresh process, in turn (A B C A B C …), with the same number of threads.
    Memory bandwidth is measured in the same run and gives the time that a token cannot go below.

    \b
    Examples:
      dareq-edge bench opt-125m-int4
      dareq-edge bench opt-125m-int4 --against fp32 --against ort-int4 --work peers --plot bench.png
      dareq-edge bench opt-125m-int4 --against ../other-model --rounds 5 --threads 4
      dareq-edge bench opt-125m-int4 --prompts 64 --contexts 64,256 --new-tokens 64 --json
    """
    from dareq_edge.cli.bench_table import bench_table
    from dareq_edge.cli.benchmark import Request, run
    from dareq_edge.cli.plot import check_plot
    from dareq_runtime.bench.sample import Lengths

    if plot is not None:
        check_plot(plot)
    if revision is not None and model is None:
        raise SpecError("--revision is about the model of --model, which is not given")
    request = Request(
        folder=folder,
        against=list(dict.fromkeys(against or ())),
        lengths=Lengths(_lengths("--prompts", prompts), _lengths("--contexts", contexts), new_tokens),
        model=model,
        revision=revision,
        rounds=rounds,
        threads=threads,
        work=work,
    )
    with console.progress_bars() as progress:
        found = run(request, progress)
    console.result(found.to_json(), bench_table(found), as_json=json)
    if plot is not None:
        from dareq_edge.cli.bench_plot import draw

        draw(found.bench, plot)


def _lengths(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers of 1 and more, separated by commas; "" is none.

    Raises:
        SpecError: Something else.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise SpecError(f"{option} is {text!r}; give whole numbers of 1 or more separated by commas, e.g. 16,128")
    return tuple(sorted({int(part) for part in parts}))
