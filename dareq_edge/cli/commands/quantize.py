"""dareq-edge quantize."""

from __future__ import annotations

from pathlib import Path

import typer

from dareq_edge.cli import console, options
from dareq_edge.cli.allocation import quantization


def quantize(
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
    revision: options.Revision = None,
    overwrite: options.Overwrite = False,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Quantize a checkpoint, tensor by tensor, into a folder that transformers and export read.

    \b
    Examples:
      dareq-edge quantize facebook/opt-125m --out opt-125m-q4
      dareq-edge quantize ./my-opt --out q3 --bits 3 --group-size 32 --recipe rtn
      dareq-edge quantize ./my-opt --out q4 --skip '*.fc2' --table-bits 32
      dareq-edge quantize ./my-opt --out q60 --max-size 60MB
      dareq-edge quantize ./my-opt --out ewq --rule ewq-ranked+bits=5
    """
    from dareq_edge.quantize import quantize_checkpoint

    console.quiet_libraries()
    chosen = quantization(context)
    with console.progress_bars() as progress:
        manifest = quantize_checkpoint(
            model,
            Path(out),
            chosen.options,
            chosen.recipe,
            plan=chosen.plan,
            revision=revision,
            overwrite=overwrite,
            trust_remote_code=trust_remote_code,
            progress=progress,
        )
    console.written(manifest, out, as_json=json)
