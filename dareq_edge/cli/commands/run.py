"""dareq-edge run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dareq_edge.cli import console, options
from dareq_edge.errors import DataError


def run(
    folder: options.Folder,
    prompt: Annotated[str, typer.Argument(metavar="[PROMPT]", help="Text to continue; - reads stdin.")] = "",
    prompt_ids: Annotated[str, typer.Option("--prompt-ids", help="Token ids instead, e.g. 2,133,82.")] = "",
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", "-n", min=1, help="Most new tokens.")] = 64,
    temperature: Annotated[float, typer.Option("--temperature", min=0, help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option("--top-k", min=0, help="0 keeps all tokens.")] = 0,
    top_p: Annotated[float, typer.Option("--top-p", help="1 keeps all tokens.")] = 1.0,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same text.")] = 0,
    compute: options.ComputeIn = "int8",
    threads: options.RunThreads = None,
    preset: options.Preset = "memory",
    lookup: Annotated[
        bool, typer.Option("--lookup", help="Draft tokens from repetitions in the text; greedy only.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Generate text with an exported model, printed as it comes.

    \b
    Examples:
      dareq-edge run opt-125m-int4 "The capital of France is"
      dareq-edge run opt-125m-int4 "Once upon a time" --temperature 0.8 --top-k 40 --seed 7
      echo "My fellow citizens" | dareq-edge run opt-125m-int4 -
      dareq-edge run stories-int4 --prompt-ids 1,403,407 --threads measured
      dareq-edge run opt-125m-int4 "Dear Sir or Madam" -n 200 --lookup --preset battery
    """
    import dareq_runtime

    start = _ids(prompt_ids) if prompt_ids else (sys.stdin.read().strip() if prompt == "-" else prompt)
    if not start:
        raise DataError("there is no prompt; give a PROMPT, - for standard input, or --prompt-ids")

    def show(row: int, token: int, text: str) -> None:
        piece = text if isinstance(start, str) or text else f"{token} "
        sys.stdout.write(console.harmless(piece) if sys.stdout.isatty() else piece)
        sys.stdout.flush()

    model = dareq_runtime.load(folder, compute=compute, threads=options.run_threads(threads), preset=preset)
    model.encode(start)  # refuses an unusable prompt before anything is printed
    if not json and isinstance(start, str):
        sys.stdout.write(start)
    made = model.generate(
        start,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        lookup=lookup,
        on_token=None if json else show,
    )
    if json:
        record = {"prompt": start, "ids": list(made.ids), "text": made.text, "stopped": made.stopped}
        console.result(record, "", as_json=True)
    else:
        sys.stdout.write("\n")


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise DataError(f"--prompt-ids is {text!r}; give whole numbers separated by commas") from error
