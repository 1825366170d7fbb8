"""dareq-edge compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dareq_edge.cli import console, options
from dareq_edge.cli.evaluation import DataChoice
from dareq_edge.cli.pages import page_of
from dareq_edge.cli.recipes import RecipeChoice
from dareq_edge.errors import DataError, SpecError

SEEDS = 3


Recipes = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Comma-separated NAME:TIER+SETTING=VALUE@GROUP/BITS, of which only NAME is needed, e.g. "
        "rtn,hqq@64,rtn@channel/3,dareq+tuning=0; "
        f"names: {', '.join(options.COMPARABLE)}.",
    ),
]
Texts = Annotated[list[Path] | None, options.data("A UTF-8 text file; may be repeated.", "--text")]
MaxTokens = Annotated[int | None, options.data("Score only this many tokens of each text.", "--max-tokens", min=2)]
Window = Annotated[
    int | None, options.data("Tokens per window; 512, or the context if it is shorter.", "--window", min=2)
]
Seeds = Annotated[
    int, typer.Option("--seeds", min=1, help="Runs of each recipe that draws at random, from --seed on.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for finished rows: an interrupted comparison goes on from there."),
]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the checkpoints in it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Forget the finished rows in it.")]
PlotCoded = Annotated[bool, typer.Option("--plot-coded", help="Bytes in the plot are those of coded matrices.")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw perplexity against bytes: .png or .svg.")]


def compare(
    context: typer.Context,
    model: options.Model,
    recipes: Recipes,
    text: Texts = None,
    tokens: options.TokensFile = None,
    max_tokens: MaxTokens = None,
    window: Window = None,
    bits: options.Bits = 4,
    group_size: options.GroupSize = "channel",
    table_bits: options.Table = "32",
    position_bits: options.Positions = "32",
    scale_dtype: options.Scales = "bfloat16",
    skip: options.Skip = None,
    calibration: options.Calibration = None,
    seed: options.Seed = None,
    seeds: Seeds = SEEDS,
    samples: options.Samples = None,
    sample_length: options.SampleLength = None,
    out: Out = None,
    keep: Keep = False,
    overwrite: Overwrite = False,
    plot: Plot = None,
    plot_coded: PlotCoded = False,
    report: options.Report = None,
    prompt: options.Prompt = options.PROMPT,
    threads: options.Threads = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Compare recipes on the same tokens: perplexity, distance to the float model, size, time and memory.

    Every recipe is quantized in a process of its own and scored in PyTorch, fp32, on non-overlapping windows.
    A recipe that fails is a row that says why, and makes the exit code 1.

    \b
    Examples:
      dareq-edge compare facebook/opt-125m --recipes rtn,rtn@32,mse,hqq@64,nf4@64 --text notes.txt
      dareq-edge compare ./my-opt --recipes dareq-reference,rtn@64/3 --text a.txt --text b.txt --plot curve.svg
      dareq-edge compare ./my-opt --recipes rtn,mse --tokens ids.npy --max-tokens 20000 --out rows --json
    """
    from dareq_edge.cli.comparison import Request, compare_recipes
    from dareq_edge.cli.comparison_report import comparison_report
    from dareq_edge.cli.comparison_table import comparison_table
    from dareq_edge.cli.plot import draw
    from dareq_edge.cli.subjects import make_subjects
    from dareq_edge.comparison.variants import parse_variants
    from dareq_edge.plan import QuantOptions

    console.quiet_libraries(threads)
    _check(context.params)
    page = page_of(context)
    tables, positions = options.table_bits(table_bits), options.table_bits(position_bits)
    base = QuantOptions(scale_dtype=scale_dtype, skip=tuple(skip or ()), table_bits=tables, position_bits=positions)
    choice = RecipeChoice("", None, calibration, seed, samples, sample_length)
    variants = parse_variants(recipes, group_size=options.group_size(group_size), bits=bits)
    request = Request(
        model=model,
        revision=revision,
        subjects=make_subjects(variants, base, choice, seeds),
        texts=_texts(text or (), tokens, max_tokens),
        window=window,
        out=out,
        keep=keep,
        fresh=overwrite,
        trust_remote_code=trust_remote_code,
        threads=threads,
        prompt="" if page is None else prompt,
    )
    with console.progress_bars() as progress:
        found = compare_recipes(request, progress)
    console.result(found.to_json(), comparison_table(found), as_json=json)
    if plot is not None:
        draw(found, plot, coded=plot_coded)
    if page is not None:
        page.write(comparison_report(page, request, found))
    if found.failed:
        raise typer.Exit(1)


def _texts(files: Sequence[Path], tokens: Path | None, most: int | None) -> list[DataChoice]:
    """Every text that is scored."""
    texts = [DataChoice(text=path, max_tokens=most) for path in files]
    return texts if tokens is None else [*texts, DataChoice(tokens=tokens, max_tokens=most)]


def _check(given: Mapping[str, Any]) -> None:
    """Refuse before any work options that do not go together, and a plot that could not be drawn after it."""
    if not given["text"] and given["tokens"] is None:
        raise DataError("there is no text to compare on; give --text FILE or --tokens FILE.npy")
    if given["out"] is None and (given["keep"] or given["overwrite"]):
        raise SpecError("--keep and --overwrite are about the folder of --out, which is not given")
    if given["plot"] is not None:
        from dareq_edge.cli.plot import check_plot

        check_plot(Path(given["plot"]))
    elif given["plot_coded"]:
        raise SpecError("--plot-coded is about the plot of --plot, which is not given")
