"""dareq-edge unpack."""

from __future__ import annotations

from dareq_edge.cli import console, options


def unpack(
    folder: options.Folder, out: options.Out, overwrite: options.Overwrite = False, json: options.Json = False
) -> None:
    """The folder that was packed, every file as it was, for programs that do not know packed folders.

    \b
    Examples:
      dareq-edge unpack opt-125m-packed --out opt-125m-int4
    """
    from dareq_edge.cli.packing import folder_bytes
    from dareq_edge.cli.tables import size_table
    from dareq_edge.packed import unpack_folder

    with console.progress_bars() as progress:
        unpack_folder(folder, out, overwrite=overwrite, progress=progress)
    before, after = folder_bytes(folder), folder_bytes(out)
    record = {"out": str(out), "bytes": {"before": before, "after": after}}
    console.result(record, size_table([(str(folder), before), (str(out), after)], ratio=False), as_json=json)
