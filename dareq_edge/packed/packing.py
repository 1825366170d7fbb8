"""pack_folder: the large files of a folder as containers, the others as they are."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from dareq_edge.container import Container, encode
from dareq_edge.errors import ArtifactError, SpecError
from dareq_edge.folders import inside, new_folder
from dareq_edge.manifest import NAME, Manifest, PackedEntry, mismatch
from dareq_edge.packed.regions import file_regions
from dareq_edge.progress import Progress, silent

SUFFIX = ".dqz"
"""Of a container; what precedes it is the name of the file it holds."""


def pack_folder(
    folder: Path, out: Path, *, overwrite: bool = False, threads: int | None = None, progress: Progress = silent
) -> Manifest:
    """Write a copy of a folder whose data files are in containers.

    Packed are the files that hold tensors, and dareq.json as it is, so that unpacking gives it back whatever version
    wrote it.

    Args:
        folder: What ``dareq-edge quantize`` or ``dareq-edge export`` wrote.
        out: Folder to create; it appears whole or not at all.
        overwrite: Replace ``out`` if it exists.
        threads: Frames coded at once; by default one per core, at most 8.
        progress: Called with "packing" and bytes.

    Returns:
        The manifest, as written to ``out/dareq.json``.

    Raises:
        SpecError: The folder is packed already, is in ORT format, has no tensors, or ``out`` exists.
        ArtifactError: The folder is not ours, incomplete or modified; or the disk is full.
    """
    manifest = Manifest.read(folder)
    names = _packable(manifest, folder)
    manifest.verify(folder, hashes=False)
    total = sum(manifest.files[name].bytes for name in names)
    with new_folder(out, overwrite=overwrite) as scratch:
        packed: dict[str, PackedEntry] = {}
        done = 0
        for name in (NAME, *names):
            packed[name] = _pack_file(manifest, folder, name, scratch, threads, _shifted(progress, done, total))
            done += 0 if name == NAME else manifest.files[name].bytes
            if name != NAME and packed[name].sha256 != manifest.files[name].sha256:
                raise mismatch(folder / name)
        _copy_rest(manifest, folder, names, scratch)
        written = replace(manifest, packed=packed, pieces={}).with_files(scratch)
        for name in manifest.files.keys() - set(names):
            if written.files[name] != manifest.files[name]:
                raise mismatch(folder / name)
        written.write(scratch)
        progress("packing", total, total)
    return written


def _packable(manifest: Manifest, folder: Path) -> list[str]:
    """Names of the files that become containers."""
    if manifest.packed:
        raise SpecError(f"{folder} is packed already; use it as it is, or unpack it with dareq-edge unpack")
    names = sorted({t.file for t in manifest.tensors.values()})
    if not names:
        raise SpecError(f"{NAME} in {folder} names no tensor, so there is nothing to pack; use the folder as it is")
    if manifest.kind == "onnx" and manifest.graph in names:
        raise SpecError(f"{folder} is in ORT format, which is not packed; pack the folder it was made from")
    missing = [name for name in names if name not in manifest.files]
    if missing:
        raise ArtifactError(f"{NAME} in {folder} does not list {missing[0]}; write the folder again")
    return names


def _pack_file(
    manifest: Manifest, folder: Path, name: str, scratch: Path, threads: int | None, progress: Progress
) -> PackedEntry:
    source, target = inside(folder, name), scratch / (name + SUFFIX)
    target.parent.mkdir(parents=True, exist_ok=True)
    regions = [] if name == NAME else file_regions(manifest, folder, name)
    encode(source, regions, target, threads=threads, progress=progress)
    made = Container.open(target)
    return PackedEntry(name + SUFFIX, made.nbytes, made.sha256)


def _copy_rest(manifest: Manifest, folder: Path, names: list[str], scratch: Path) -> None:
    for name in manifest.files.keys() - set(names):
        if name.endswith(SUFFIX):
            raise SpecError(f"{folder} holds {name}, whose name is a container's; rename it and write {NAME} again")
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(inside(folder, name), target)


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    """Frames of one file as bytes of all: about 2^19 each, and never the whole before the end."""

    def report(stage: str, done: int, frames: int) -> None:
        progress(stage, min(before + (done << 19), total - 1), total)

    return report
