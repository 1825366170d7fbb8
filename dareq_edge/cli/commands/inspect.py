"""dareq-edge inspect."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dareq_edge.cli import console, options
from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.manifest import NAME, Manifest

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dareq_edge.manifest import TensorEntry


def inspect(
    folder: options.Folder,
    summary: Annotated[bool, typer.Option("--summary", help="One row per kind of tensor.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every file with its sha256.")] = False,
    graph: Annotated[bool, typer.Option("--graph", help="Operators that run for every token.")] = False,
    json: options.Json = False,
) -> None:
    """What is in a folder: bits, scheme and bytes of every tensor, and the total on disk.

    \b
    Examples:
      dareq-edge inspect opt-125m-int4
      dareq-edge inspect opt-125m-int4 --summary --verify
      dareq-edge inspect opt-125m-int4 --graph
      dareq-edge inspect ./float-model --json
    """
    from rich.console import Group

    from dareq_edge.cli.tables import score_table, size_table, tensor_table

    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}; give a model folder")
    if (folder / NAME).is_file():
        manifest = Manifest.read(folder)
        manifest.verify(folder, hashes=verify)
    else:
        manifest = Manifest("float", str(folder), tensors=_float_tensors(folder))
    sizes = [(p.relative_to(folder).as_posix(), p.stat().st_size) for p in sorted(folder.rglob("*")) if p.is_file()]
    total = sum(size for _, size in sizes)
    record = {
        "kind": manifest.kind,
        "source": manifest.source,
        "revision": manifest.revision,
        "profile": manifest.profile if manifest.kind == "onnx" else None,
        "total_bytes": total,
        "tensor_bytes": sum(t.bytes for t in manifest.tensors.values() if t.shares is None),
        "files": dict(sizes),
        "tensors": console.plain(manifest)["tensors"],
        "scores": {label: report.to_json() for label, report in manifest.scores.items()},
    }
    shown: list[RenderableType] = [tensor_table(manifest.tensors, summary=summary)]
    if manifest.scores:
        shown.append(score_table(list(manifest.scores.values())))
    shown.append(size_table([("total", total), *sizes], ratio=False))
    if graph:
        record["graph"], table = _operators(folder, manifest)
        shown = [table]
    console.result(record, Group(*shown), as_json=json)


def _operators(folder: Path, manifest: Manifest) -> tuple[dict[str, object], RenderableType]:
    """The operators of an exported folder, as a record and as a table."""
    from dareq_edge.cli.tables import operator_table

    if manifest.kind != "onnx":
        raise CheckpointError(f"{folder} holds no ONNX graph; give a folder that dareq-edge export wrote")
    try:
        from dareq_export.operators import summarize
    except ImportError as error:
        raise SpecError('reading a graph needs onnx; install it with pip install "dareq-edge[export]"') from error
    summary = summarize(folder)
    derived = {"total": summary.total, "per_layer": summary.per_layer, "outside": summary.outside}
    return asdict(summary) | derived, operator_table(summary)


def _float_tensors(folder: Path) -> dict[str, TensorEntry]:
    """The tensors of a plain Hugging Face folder, from its headers."""
    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.manifest import TensorEntry

    console.quiet_libraries()
    found = Checkpoint.open(str(folder))
    return {
        name: TensorEntry(info.shape, info.bits, info.dtype, None, info.file.name, None, info.bytes)
        for name, info in found.tensors.items()
    }
