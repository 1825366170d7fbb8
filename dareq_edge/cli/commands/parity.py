"""dareq-edge parity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dareq_edge.cli import console, options
from dareq_edge.cli.commands.evaluate import fetch, reference
from dareq_edge.cli.evaluation import DataChoice, read_evaluation
from dareq_edge.cli.pages import Page, page_of

if TYPE_CHECKING:
    from dareq_edge.progress import Progress
    from dareq_edge.reporting.records import Report
    from dareq_runtime.model import OnnxModel
    from dareq_runtime.scorer import Scorer
    from dareq_runtime.verdict import ParityReport

MAX_TOKENS = 8192


def parity(
    context: typer.Context,
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
    report: options.Report = None,
    prompt: options.Prompt = options.PROMPT,
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

    page = page_of(context)
    choice = DataChoice(dataset, text, tokens, max_tokens, protocol, window, stride)
    if not choice.given:
        console.note("no text given: scoring on the embedded evaluation text")
    read, windows = read_evaluation(choice, folder)
    with console.progress_bars() as progress:
        sources = [
            None
            if name is None
            else reference(
                fetch(name, revision if name == model else None, threads, trust_remote_code=trust_remote_code).folder,
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
        found = compare(scorers, links, read, windows, progress=progress)
    console.result(found.to_json(), parity_table(found), as_json=json)
    if page is not None:
        with console.progress_bars() as progress:
            shown = _page(context, page, found, scorers, exact, progress)
        page.write(shown)
    found.require()


def _page(
    context: typer.Context,
    page: Page,
    found: ParityReport,
    scorers: list[Scorer],
    exact: OnnxModel,
    progress: Progress,
) -> Report:
    """What --report shows, with text from every model that was compared."""
    from dareq_edge.cli.score_reports import parity_page
    from dareq_edge.cli.side_by_side import side_by_side

    given = context.params
    folder, trusted = exact.folder.path, bool(given["trust_remote_code"])
    original = None
    if given["model"] is not None:
        from dareq_edge.checkpoint import Checkpoint

        original = Checkpoint.open(given["model"], given["revision"], trust_remote_code=trusted)
    return parity_page(
        page,
        folder,
        found,
        progress,
        original=original,
        quantized=None if given["checkpoint"] is None else Path(given["checkpoint"]),
        samples=side_by_side(scorers, folder, given["prompt"], exact.folder.stop_ids),
        threads=given["threads"],
        trust_remote_code=trusted,
    )
