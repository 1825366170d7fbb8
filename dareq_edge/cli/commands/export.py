"""dareq-edge export."""

from __future__ import annotations

from dareq_edge.cli import console, options


def export(
    checkpoint: options.Checkpoint,
    out: options.Out,
    profile: options.Profile = "native",
    cache_bits: options.Cache = "32",
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Export a quantized checkpoint to a folder with an ONNX model.

    \b
    Examples:
      dareq-edge export opt-125m-q4 --out opt-125m-onnx
      dareq-edge export opt-125m-q4 --out opt-125m-long --cache-bits 8
      dareq-edge export opt-125m-q4 --out opt-125m-web --profile web
    """
    console.quiet_libraries()
    from dareq_edge.cli.cache import ranges_for
    from dareq_export import export_onnx

    with console.progress_bars() as progress:
        ranges = ranges_for(cache_bits, progress)
        manifest = export_onnx(
            checkpoint, out, profile=profile, overwrite=overwrite, cache_ranges=ranges, progress=progress
        )
    console.written(manifest, out, as_json=json)
