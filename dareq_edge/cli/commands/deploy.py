"""dareq-edge deploy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dareq_edge.cli import console, options
from dareq_edge.cli.allocation import quantization
from dareq_edge.cli.evaluation import DataChoice
from dareq_edge.cli.pages import page_of

if TYPE_CHECKING:
    from dareq_edge.cli.deployment import Deployment, Job
    from dareq_edge.cli.pages import Page

MAX_TOKENS = 8192


def deploy(
    context: typer.Context,
    model: options.Model,
    out: options.Out,
    bits: options.Bits = 4,
    group_size: options.GroupSize = "channel",
    max_size: options.MaxSize = None,
    rule: options.Rule = None,
    recipe: options.Recipe = options.DEFAULT_RECIPE,
    tier: options.Tier = None,
    calibration: options.Calibration = None,
    seed: options.Seed = None,
    samples: options.Samples = None,
    sample_length: options.SampleLength = None,
    table_bits: options.Table = "8",
    position_bits: options.Positions = "8",
    scale_dtype: options.Scales = "bfloat16",
    skip: options.Skip = None,
    profile: options.Profile = "native",
    pack: options.Pack = False,
    cache_bits: options.Cache = "32",
    dataset: options.Dataset = None,
    text: options.TextFile = None,
    tokens: options.TokensFile = None,
    max_tokens: options.MaxTokens = MAX_TOKENS,
    protocol: options.Protocol = "gptq",
    window: options.Window = None,
    stride: options.Stride = None,
    no_eval: Annotated[bool, typer.Option("--no-eval", help="Skip perplexity and parity.")] = False,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Keep the folder when parity fails; parity.json in it says so.")
    ] = False,
    prompt: options.Prompt = options.PROMPT,
    threads: options.Threads = None,
    revision: options.Revision = None,
    overwrite: options.Overwrite = False,
    report: options.Report = None,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Quantize, export and check a model in one go.

    The folder appears only when the exported model passes parity; without a text option on the embedded text.

    \b
    Examples:
      dareq-edge deploy facebook/opt-125m --out opt-125m-int4
      dareq-edge deploy ./my-opt --out int4 --group-size 64 --dataset wikitext-2-raw-v1 --max-tokens 100000
      dareq-edge deploy ./stories260k --out int4 --tokens eval_tokens.npy --json
      dareq-edge deploy ./my-opt --out small --max-size 60MB --recipe rtn --no-eval --pack
    """
    from dareq_edge.cli.deployment import Job

    chosen = quantization(context, cache_bits=int(cache_bits), packed=pack)
    job = Job(
        source=model,
        out=Path(out),
        options=chosen.options,
        recipe=chosen.recipe,
        plan=chosen.plan,
        max_bytes=chosen.max_bytes,
        coded=chosen.coded,
        data=None if no_eval else DataChoice(dataset, text, tokens, max_tokens, protocol, window, stride),
        revision=revision,
        overwrite=overwrite,
        keep_failed=keep_failed,
        trust_remote_code=trust_remote_code,
        prompt=prompt,
        threads=threads,
        profile=profile,
        cache_bits=cache_bits,
        pack=pack,
    )
    run_job(job, as_json=json, page=page_of(context))


def run_job(job: Job, *, as_json: bool, page: Page | None = None) -> None:
    """Deploy, print the outcome, write the report, and leave with 1 if parity failed."""
    from dareq_edge.cli.deployment import RejectedError, deploy_model

    console.quiet_libraries(job.threads)
    if job.data is not None and not job.data.given:
        console.note("no text given: scoring on the embedded evaluation text")
    try:
        with console.progress_bars() as progress:
            found = deploy_model(replace(job, evidence=page is not None), progress)
    except RejectedError as rejected:
        _show(rejected.deployment, as_json=as_json)
        _report(page, job, rejected.deployment, written=False)
        raise
    _show(found, as_json=as_json)
    _report(page, job, found, written=True)
    if found.report is not None and not found.report.passed:
        raise typer.Exit(1)


def _report(page: Page | None, job: Job, found: Deployment, *, written: bool) -> None:
    if page is not None:
        from dareq_edge.cli.deployment_report import deployment_report

        page.write(deployment_report(page, job, found, written=written))
        console.note(f"report written to {page.path}")


def _show(found: Deployment, *, as_json: bool) -> None:
    from rich.console import Group, RenderableType
    from rich.text import Text

    from dareq_edge.cli.tables import parity_table, size_table

    rows = [("source weights", found.before), ("ONNX weights", found.after), ("ONNX folder", found.folder)]
    if found.packed is not None:
        rows.append(("packed folder", found.packed))
    shown: list[RenderableType] = [size_table(rows)]
    if found.report is not None:
        shown.append(parity_table(found.report))
    if found.sample is not None:
        shown.append(Text.assemble((found.prompt, "bold"), found.sample))
    if found.report is None or found.report.passed:
        shown.append(Text(f"deployed to {found.out}"))
    console.result(found.to_json(), Group(*shown), as_json=as_json)
