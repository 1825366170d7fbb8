"""dareq-edge parity."""

from __future__ import annotations

from typing import Annotated

import typer

from dareq_edge.cli import console, options
from dareq_edge.cli.commands.evaluate import fetch, reference
from dareq_edge.cli.evaluation import DataChoice, read_evaluation

MAX_TOKENS = 8192


def parity(
    folder: options.Folder,
    model: Annotated[
        str | None, typer.Option("--model", help="The float model, a hub id or folder: the price of quantization.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", help="The quantized checkpoint: proves that the export is right.")
    ] = None,
    dataset: options.Dataset = None,
    text: options.TextFile = None,
    tokens: options.TokensFile = None,
    max_tokens: options.MaxTokens = MAX_TOKENS,
    protocol: options.Protocol = "gptq",
    window: options.Window = None,
    stride: options.Stride = None,
    threads: options.Threads = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Compare an exported model with its sources on the same tokens; a broken link exits with 1.

    Always compares fp32 compute with int8 compute; --checkpoint and --model add PyTorch's side of the chain.

    \b
    Examples:
      dareq-edge parity opt-125m-int4 --text notes.txt
      dareq-edge parity opt-125m-int4 --checkpoint opt-125m-q4 --model facebook/opt-125m --max-tokens 20000
    """
    import dareq_runtime
    from dareq_edge.cli.tables import parity_table
    from dareq_runtime.parity import chain, compare

    choice = DataChoice(dataset, text, tokens, max_tokens, protocol, window, stride)
    if not choice.given:
        console.note("no text given: scoring on the embedded evaluation text")
    read, windows = read_evaluation(choice, folder)
    with console.progress_bars() as progress:
        sources = [
            None
            if name is None
            else reference(
                fetch(name, revision if name == model else None, threads, trust_remote_code=trust_remote_code),
                progress,
                trust_remote_code=trust_remote_code,
            )
            for name in (model, checkpoint)
        ]
        exact = dareq_runtime.load(folder, compute="fp32", threads=threads)
        scorers, links = chain(
            original=sources[0],
            quantized=sources[1],
            fp32=exact,
            int8=dareq_runtime.load(folder, compute="int8", threads=threads, verify=False),
            cache_bits=exact.cache_bits,
        )
        report = compare(scorers, links, read, windows, progress=progress)
    console.result(report.to_json(), parity_table(report), as_json=json)
    report.require()
