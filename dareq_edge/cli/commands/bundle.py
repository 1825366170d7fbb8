"""dareq-edge bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dareq_edge.cli import console, options
from dareq_edge.cli.commands.parity import MAX_TOKENS
from dareq_edge.cli.evaluation import DataChoice, read_evaluation

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dareq_runtime.kit.writing import Written

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to create, or a zip if the name ends in .zip.")]


def bundle(
    folder: options.Folder,
    out: Out,
    dataset: options.Dataset = None,
    text: options.TextFile = None,
    tokens: options.TokensFile = None,
    max_tokens: options.MaxTokens = MAX_TOKENS,
    protocol: options.Protocol = "gptq",
    window: options.Window = None,
    stride: options.Stride = None,
    threads: options.Threads = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Write a validation kit: the model, tokens, this machine's predictions, and a program that judges a device.

    Carry it to the device and run validate.py there; it needs Python, numpy and onnxruntime, nothing of dareq-edge.

    \b
    Examples:
      dareq-edge bundle opt-125m-int4 --out kit
      dareq-edge bundle opt-125m-int4 --out kit.zip --text wiki.test.raw --max-tokens 20000
      dareq-edge bundle stories-int4 --out kit --tokens eval_tokens.npy --protocol strided --window 256
    """
    from dareq_runtime.folder import read_manifest
    from dareq_runtime.kit.writing import Job, write_kit

    read_manifest(folder)  # a wrong folder is a clearer mistake than its missing tokenizer
    choice = DataChoice(dataset, text, tokens, max_tokens, protocol, window, stride)
    if not choice.given:
        console.note("no text given: the kit judges on the embedded evaluation text")
    read, windows = read_evaluation(choice, folder)
    with console.progress_bars() as progress:
        made = write_kit(folder, out, Job(read, windows, threads=threads), overwrite=overwrite, progress=progress)
    record = {"out": str(made.out), "bytes": made.bytes, "kit": made.digest}
    record["references"] = {name: report.to_json() for name, report in made.kit.references.items()}
    console.result(record, _shown(made), as_json=json)


def _shown(made: Written) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from dareq_edge.cli.tables import megabytes, score_table

    is_zip = made.out.suffix == ".zip"
    run = f"python {made.out.name}" if is_zip else f"python {made.out.name}/validate.py"
    told = [f"{made.out}: {megabytes(made.bytes)}", f"on the device: {run}"]
    lines = [Text(line, no_wrap=True, overflow="ignore") for line in told]  # a command is copied whole
    return Group(score_table(list(made.kit.references.values())), *lines)
