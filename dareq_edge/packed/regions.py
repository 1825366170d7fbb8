"""Which bytes of a file are codes and which are scales, as the container's coder wants to know it.

A wrong answer costs bytes, never correctness: every coding is lossless.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path

from dareq_edge.container import Kind, Region
from dareq_edge.manifest import Manifest, TensorEntry
from dareq_edge.packed.safetensors_header import read_header

_FLOAT_BITS, _CODE_BITS = 32, 8


def file_regions(manifest: Manifest, folder: Path, name: str) -> list[Region]:
    """The regions of a data file, sorted and disjoint; what they leave out is bytes.

    Args:
        manifest: Of the folder.
        folder: Where the file is.
        name: The file; safetensors are read by their own header, others by the manifest's offsets.

    Raises:
        ArtifactError: A safetensors header cannot be read.
    """
    size = (folder / name).stat().st_size
    if name.endswith(".safetensors"):
        return _disjoint(_of_shard(manifest, folder / name), size)
    entries = (t for t in manifest.tensors.values() if t.file == name and t.shares is None)
    return _disjoint((r for entry in entries if (r := _of_entry(entry)) is not None), size)


def _of_entry(entry: TensorEntry) -> Region | None:
    """Codes fill less than a byte or a whole one; floats of 32 bits are floats."""
    if entry.offset is None or not entry.bytes:
        return None
    if _CODE_BITS < entry.bits != _FLOAT_BITS:
        return None  # 16-bit floats, say
    return _region(entry.offset, entry.bytes, entry.shape, floats=entry.bits == _FLOAT_BITS)


def _of_shard(manifest: Manifest, path: Path) -> Iterator[Region]:
    """``module.qweight`` and ``module.scales`` stand in the header; their matrix's shape stands in the manifest."""
    for name, tensor in read_header(path).items():
        if tensor.dtype == "U8" and name.endswith(".qweight"):
            matrix = manifest.tensors.get(name.removesuffix("qweight") + "weight")
            shape = tensor.shape if matrix is None else matrix.shape
            yield _region(tensor.offset, tensor.nbytes, shape, floats=False)
        elif tensor.dtype == "F32":
            yield _region(tensor.offset, tensor.nbytes, tensor.shape, floats=True)


def _region(offset: int, nbytes: int, shape: tuple[int, ...], *, floats: bool) -> Region:
    kind: Kind = "floats" if floats else "codes8" if nbytes >= prod(shape) else "codes4"
    rows = shape[0] if len(shape) > 1 and shape[0] else 0
    row = nbytes // rows if rows and nbytes % rows == 0 else 4
    return Region(offset, nbytes, kind, row)


def _disjoint(found: Iterable[Region], size: int) -> list[Region]:
    """Sorted, without those that overlap one before them or reach beyond the file."""
    kept: list[Region] = []
    for region in sorted((r for r in found if r.nbytes), key=lambda r: (r.offset, -r.nbytes)):
        end = kept[-1].offset + kept[-1].nbytes if kept else 0
        if end <= region.offset and region.offset + region.nbytes <= size:
            kept.append(region)
    return kept
