"""dareq-edge layout."""

from __future__ import annotations

from dareq_edge.cli import console, options


def layout(
    folder: options.Folder,
    out: options.Out,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """The same model under the file names of transformers.js (onnx/model_q4.onnx); other clients open it as well.

    \b
    Examples:
      dareq-edge layout opt-125m-int4 --out opt-125m-js
    """
    from dareq_export.relayout import for_transformers_js

    manifest = for_transformers_js(folder, out, overwrite=overwrite)
    console.written(manifest, out, as_json=json)
