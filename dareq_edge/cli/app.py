"""The typer application: one file per subcommand under ``commands``."""

from __future__ import annotations

from typing import Annotated

import typer

import dareq_edge
from dareq_edge.cli.commands import (
    analyze,
    bench,
    bundle,
    compare,
    demo,
    deploy,
    evaluate,
    export,
    inspect,
    layout,
    mobile,
    pack,
    parity,
    quantize,
    reproduce,
    run,
    unpack,
    verdict,
)

app = typer.Typer(
    name="dareq-edge",
    help="Data-free 4-bit ONNX export of causal language models, checked by perplexity and parity.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: dareq-edge deploy facebook/opt-125m --out opt-125m-int4",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dareq-edge {dareq_edge.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Data-free 4-bit ONNX export of causal language models, checked by perplexity and parity."""


app.command("deploy")(deploy.deploy)
app.command("quantize")(quantize.quantize)
app.command("export")(export.export)
app.command("run")(run.run)
app.command("eval")(evaluate.evaluate)
app.command("parity")(parity.parity)
app.command("compare")(compare.compare)
app.command("bundle")(bundle.bundle)
app.command("verdict")(verdict.verdict)
app.command("bench")(bench.bench)
app.command("pack")(pack.pack)
app.command("unpack")(unpack.unpack)
app.command("mobile")(mobile.mobile)
app.command("inspect")(inspect.inspect)
app.command("analyze")(analyze.analyze)
app.command("layout")(layout.layout)
app.command("reproduce")(reproduce.reproduce)
app.command("demo")(demo.demo)
