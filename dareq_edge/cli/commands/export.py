"""dareq-edge export."""

from __future__ import annotations

from dareq_edge.cli import console, options


def export(
    checkpoint: options.Checkpoint,
    out: options.Out,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Export a quantized checkpoint to a folder with an ONNX model.

    \b
    Examples:
      dareq-edge export opt-125m-q4 --out opt-125m-onnx
    """
    console.quiet_libraries()
    from dareq_export import export_onnx

    with console.progress_bars() as progress:
        manifest = export_onnx(checkpoint, out, overwrite=overwrite, progress=progress)
    console.written(manifest, out, as_json=json)
