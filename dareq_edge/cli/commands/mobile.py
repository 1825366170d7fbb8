"""dareq-edge mobile."""

from __future__ import annotations

from dareq_edge.cli import console, options


def mobile(
    folder: options.Folder, out: options.Out, overwrite: options.Overwrite = False, json: options.Json = False
) -> None:
    """Put an exported folder into onnxruntime's ORT format, for builds of onnxruntime with these operators alone.

    Apps that use onnxruntime's own packages need none of this: they open the exported folder as it is.

    \b
    Examples:
      dareq-edge mobile opt-125m-int4 --out opt-125m-mobile
    """
    from rich.text import Text

    from dareq_edge.cli.mobile import OPERATOR_FILES, package

    manifest = package(folder, out, overwrite=overwrite)
    files = {name: entry.bytes for name, entry in manifest.files.items()}
    operators = {name: (out / name).read_text(encoding="utf-8").splitlines() for name in OPERATOR_FILES}
    record = {"out": str(out), "bytes": sum(files.values()), "files": files, "operators": operators}
    size = manifest.graph_bytes
    shown = (
        f"{out}: {manifest.graph} of {size / 1e6:,.2f} MB, the operators it needs in {' and '.join(OPERATOR_FILES)}"
    )
    console.result(record, Text(shown), as_json=json)
