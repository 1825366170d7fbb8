"""Options that several subcommands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dareq_edge.plugins import available

Group = Literal["channel", "16", "32", "64", "128", "256"]
TableBits = Literal["4", "8", "32"]
CacheBits = Literal["8", "32"]
PresetName = Literal["latency", "memory", "battery", "mobile"]
ScaleDtype = Literal["bfloat16", "float32"]
Compute = Literal["int8", "fp32"]
ProfileName = Literal["native", "portable", "web"]

DEFAULT_RECIPE = "dareq"
"""What quantize, deploy and demo use unless told otherwise."""

MEASURED: Literal["measured"] = "measured"
RULES = [name.replace("_", "-") for name in available("dareq_edge.allocation.rules")]
_RECIPES = [name.replace("_", "-") for name in available("dareq_edge.recipes")]
COMPARABLE = sorted([*_RECIPES, *available("dareq_edge.dequantized")])
_QUANTIZING, _CALIBRATING, _DATA, _RUNNING = "Quantization", "Recipe settings", "Evaluation data", "Running"


def _option(text: str, panel: str, *names: str, **more: object) -> object:
    return typer.Option(*names, help=text, rich_help_panel=panel, **more)  # type: ignore[arg-type]


def data(text: str, *names: str, **more: object) -> object:
    """An option about the text that is scored."""
    return _option(text, _DATA, *names, **more)


Model = Annotated[str, typer.Argument(metavar="MODEL", help="A Hugging Face hub id or a model folder.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that dareq-edge wrote.")]
Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A folder that quantize wrote.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to create.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it exists.")]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let transformers run code that comes with the model.")
]
Report = Annotated[
    Path | None, typer.Option("--report", help="Write a page to read, print and sign: .html, nothing else needed.")
]
PROMPT = "The people of the United States"
Prompt = Annotated[str, typer.Option("--prompt", help="Start of the text that the models generate; '' for none.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON record on stdout, for machines.")]

Bits = Annotated[int, _option("Bits per weight, 2 to 8.", _QUANTIZING, "--bits", min=2, max=8)]
GroupSize = Annotated[Group, _option("Weights that share a scale.", _QUANTIZING, "--group-size")]
MaxSize = Annotated[
    str | None,
    _option(
        "Most that the exported model may take, e.g. 60MB; 4.5bpw: in bits per weight; 256MB-ram: so that running it "
        "takes no more memory. Bits and groups of every matrix follow from what they cost, measured on text the "
        "model writes. In place of --bits and --group-size. With dareq-entropy and entquant: that the packed model "
        "may take.",
        _QUANTIZING,
        "--max-size",
    ),
]
Rule = Annotated[
    str | None,
    _option(
        f"What decides the bits of every block, see analyze; names: {', '.join(RULES)}. In place of --bits.",
        _QUANTIZING,
        "--rule",
        metavar="NAME[+SETTING=VALUE…]",
        autocompletion=lambda: RULES,
    ),
]
Recipe = Annotated[
    str,
    _option(
        "How codes and scales are chosen, NAME, NAME:TIER, with settings NAME:TIER+SETTING=VALUE; "
        f"names: {', '.join(_RECIPES)}.",
        _QUANTIZING,
        "--recipe",
        metavar="NAME[:TIER][+SETTING=VALUE…]",
        autocompletion=lambda: _RECIPES,
    ),
]
Tier = Annotated[str | None, _option("What dareq may look at: weights, analytic or self.", _CALIBRATING, "--tier")]
Calibration = Annotated[
    Path | None, _option("Your text, or .npy token ids, for gptq and awq.", _CALIBRATING, "--calibration")
]
Seed = Annotated[int | None, _option("Seed of a recipe that draws at random.", _CALIBRATING, "--seed", min=0)]
Samples = Annotated[int | None, _option("Calibration windows.", _CALIBRATING, "--samples", min=1)]
SampleLength = Annotated[
    int | None, _option("Tokens per calibration window.", _CALIBRATING, "--sample-length", min=2)
]
Table = Annotated[TableBits, _option("Bits of token embedding and head; 32 is float.", _QUANTIZING, "--table-bits")]
Positions = Annotated[
    TableBits, _option("Bits of learned position tables; 32 is float.", _QUANTIZING, "--position-bits")
]
Cache = Annotated[
    CacheBits,
    _option("Bits of keys and values; 8 is faster at long contexts, onnxruntime >= 1.30.", _RUNNING, "--cache-bits"),
]
Profile = Annotated[
    ProfileName,
    _option(
        "native: onnxruntime's own int4 operators; portable: those of the ONNX standard; web: the same, named for "
        "browsers.",
        _RUNNING,
        "--profile",
    ),
]
Scales = Annotated[
    ScaleDtype, _option("Precision of the scales; ARM kernels read bfloat16.", _QUANTIZING, "--scale-dtype")
]
Pack = Annotated[bool, _option("Entropy-code the finished folder, as dareq-edge pack does.", _RUNNING, "--pack")]
Skip = Annotated[
    list[str] | None, _option("Layers that stay float, e.g. '*.fc2'; may be repeated.", _QUANTIZING, "--skip")
]

Dataset = Annotated[str | None, _option("A named data set, e.g. wikitext-2-raw-v1.", _DATA, "--dataset")]
TextFile = Annotated[Path | None, _option("A UTF-8 text file.", _DATA, "--text")]
TokensFile = Annotated[Path | None, _option("A .npy file of token ids.", _DATA, "--tokens")]
MaxTokens = Annotated[int | None, _option("Score only this many tokens.", _DATA, "--max-tokens", min=2)]
Protocol = Annotated[str, _option("How windows are cut: gptq, strided, lines.", _DATA, "--protocol")]
Window = Annotated[int | None, _option("Tokens per window.", _DATA, "--window", min=2)]
Stride = Annotated[int | None, _option("Tokens between windows (strided).", _DATA, "--stride", min=1)]

ComputeIn = Annotated[Compute, _option("int8 as shipped; fp32 is exact and slow.", _RUNNING, "--compute")]
Threads = Annotated[
    int | None, _option("Threads of onnxruntime and PyTorch; one per core by default.", _RUNNING, "--threads", min=1)
]


def _number_or_measured(value: str | None) -> str | None:
    """Check ``--threads`` of the commands that run an exported model."""
    if value not in (None, MEASURED) and not (value.isdecimal() and int(value) >= 1):
        raise typer.BadParameter(f"{value!r} is neither a number from 1 on nor {MEASURED!r}")
    return value


Preset = Annotated[
    PresetName,
    _option(
        "battery: fewer threads, none that waits busily; mobile: so too, on the big cores; "
        "latency: keeps activations' memory.",
        _RUNNING,
        "--preset",
    ),
]
RunThreads = Annotated[
    str | None,
    _option(
        "Threads of onnxruntime, a number or 'measured': try a few and take the fastest; one per core by default.",
        _RUNNING,
        "--threads",
        metavar="N|measured",
        callback=_number_or_measured,
    ),
]


def run_threads(value: str | None) -> int | Literal["measured"] | None:
    """``threads`` of ``dareq_runtime.load`` for the value of ``RunThreads``."""
    return MEASURED if value == MEASURED else None if value is None else int(value)


def group_size(group: Group) -> int | None:
    """``QuantSpec.group_size`` of an option's value."""
    return None if group == "channel" else int(group)


def table_bits(bits: TableBits) -> int | None:
    """``QuantOptions.table_bits`` or ``position_bits`` of an option's value."""
    return None if bits == "32" else int(bits)
