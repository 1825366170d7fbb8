"""dareq-edge eval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dareq_edge.cli import console, options
from dareq_edge.cli.evaluation import DataChoice, read_evaluation
from dareq_edge.cli.pages import page_of

if TYPE_CHECKING:
    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.cli.pages import Page
    from dareq_edge.progress import Progress
    from dareq_edge.report import ScoreReport
    from dareq_edge.reporting.records import Report
    from dareq_runtime.scorer import Scorer


def evaluate(
    context: typer.Context,
    model: options.Model,
    dataset: options.Dataset = None,
    text: options.TextFile = None,
    tokens: options.TokensFile = None,
    max_tokens: options.MaxTokens = None,
    protocol: options.Protocol = "gptq",
    window: options.Window = None,
    stride: options.Stride = None,
    compute: options.ComputeIn = "int8",
    threads: options.RunThreads = None,
    revision: options.Revision = None,
    report: options.Report = None,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Perplexity of an exported folder (onnxruntime), or of a float or quantized checkpoint (PyTorch, fp32).

    \b
    Examples:
      dareq-edge eval opt-125m-int4 --dataset wikitext-2-raw-v1
      dareq-edge eval opt-125m-int4 --text wiki.test.raw --protocol strided --window 1024 --stride 512
      dareq-edge eval facebook/opt-125m --text notes.txt --max-tokens 20000
      dareq-edge eval stories-int4 --tokens eval_tokens.npy --compute fp32 --json
    """
    from dareq_edge.cli.tables import score_table
    from dareq_edge.manifest import is_exported
    from dareq_runtime.scoring import score

    page = page_of(context)
    choice = DataChoice(dataset, text, tokens, max_tokens, protocol, window, stride)
    if not choice.given:
        console.note("no text given: scoring on the embedded evaluation text")
    with console.progress_bars() as progress:
        if is_exported(Path(model)):
            import dareq_runtime

            read, windows = read_evaluation(choice, Path(model))
            checkpoint = None
            scorer: Scorer = dareq_runtime.load(model, compute=compute, threads=options.run_threads(threads))
        else:
            number = None if threads in (None, options.MEASURED) else int(threads)
            checkpoint = fetch(model, revision, number, trust_remote_code=trust_remote_code)
            read, windows = read_evaluation(choice, checkpoint.folder)
            scorer = reference(checkpoint.folder, progress, trust_remote_code=trust_remote_code)
        found = score(scorer, read, windows, progress=progress)
    console.result(found.to_json(), score_table([found]), as_json=json)
    if page is not None:
        with console.progress_bars() as progress:
            shown = _page(context, page, found, checkpoint, progress)
        page.write(shown)


def _page(
    context: typer.Context, page: Page, found: ScoreReport, checkpoint: Checkpoint | None, progress: Progress
) -> Report:
    """What --report shows."""
    from dareq_edge.cli.score_reports import checkpoint_report, exported_report

    given = context.params
    if checkpoint is None:
        return exported_report(page, Path(given["model"]), found, given["threads"])
    trusted = bool(given["trust_remote_code"])
    return checkpoint_report(page, checkpoint, found, progress, threads=given["threads"], trust_remote_code=trusted)


def fetch(model: str, revision: str | None, threads: int | None, *, trust_remote_code: bool) -> Checkpoint:
    """A checkpoint, from the hub if it must."""
    console.quiet_libraries(threads)
    from dareq_edge.checkpoint import Checkpoint

    return Checkpoint.open(model, revision, trust_remote_code=trust_remote_code)


def reference(folder: Path, progress: Progress, *, trust_remote_code: bool) -> Scorer:
    """The torch scorer of a checkpoint folder."""
    from dareq_edge.reference import load_reference

    return load_reference(folder, trust_remote_code=trust_remote_code, progress=progress)
