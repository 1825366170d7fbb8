"""dareq-edge pack."""

from __future__ import annotations

from typing import Annotated

import typer

from dareq_edge.cli import console, options

Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Frames coded at once; one per core by default, at most 8.")
]


def pack(
    folder: options.Folder,
    out: options.Out,
    threads: Threads = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Entropy-code a folder that quantize or export wrote, without loss: a smaller download that runs as it is.

    run, eval, parity, bench and dareq_runtime.load open a packed export directly, in memory. Every other program
    needs the files that unpack gives back.

    \b
    Examples:
      dareq-edge pack opt-125m-int4 --out opt-125m-packed
      dareq-edge run opt-125m-packed "The capital of France is"
      dareq-edge pack opt-125m-q4 --out opt-125m-q4-packed --json
    """
    from rich.console import Group

    from dareq_edge.cli.packing import folder_bytes, kind_table, packed_record
    from dareq_edge.cli.tables import size_table
    from dareq_edge.packed import kind_sizes, pack_folder

    with console.progress_bars() as progress:
        manifest = pack_folder(folder, out, overwrite=overwrite, threads=threads, progress=progress)
    kinds = kind_sizes(manifest, out)
    before, after = folder_bytes(folder), folder_bytes(out)
    record = {"out": str(out), "bytes": {"before": before, "after": after}} | packed_record(manifest, kinds)
    rows = [(str(folder), before), (str(out), after)]
    console.result(record, Group(size_table(rows), kind_table(kinds)), as_json=json)
