"""unpack_folder: a packed folder's files as they were, byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from dareq_edge.container import Container
from dareq_edge.errors import ArtifactError, SpecError
from dareq_edge.folders import inside, new_folder
from dareq_edge.manifest import NAME, Manifest, PackedEntry
from dareq_edge.progress import Progress, silent


def unpack_folder(folder: Path, out: Path, *, overwrite: bool = False, progress: Progress = silent) -> Manifest:
    """Write a packed folder's content as it was before it was packed.

    Memory is bounded by a frame. The containers are compared with their sha256, every frame with its checksums, and
    every file that is written with its own sha256.

    Args:
        folder: What ``pack_folder`` wrote.
        out: Folder to create; it appears whole or not at all.
        overwrite: Replace ``out`` if it exists.
        progress: Called with "unpacking" and bytes.

    Returns:
        The manifest of ``out``.

    Raises:
        SpecError: The folder is not packed, or ``out`` exists.
        ArtifactError: The folder is not ours, incomplete or modified; or the disk is full.
    """
    manifest = Manifest.read(folder)
    if not manifest.packed:
        raise SpecError(f"{folder} is not packed; use it as it is")
    manifest.verify(folder)
    if NAME not in manifest.packed:
        raise ArtifactError(f"{NAME} in {folder} does not say where its original is; pack the folder again")
    total = sum(entry.bytes for entry in manifest.packed.values())
    containers = {entry.container for entry in manifest.packed.values()}
    done = 0
    with new_folder(out, overwrite=overwrite) as scratch:
        for name in manifest.files.keys() - containers:
            target = inside(scratch, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(inside(folder, name), target)
        for name, entry in manifest.packed.items():
            for size in _unpack_file(open_container(manifest, folder, name), entry, inside(scratch, name)):
                done += size
                progress("unpacking", done, total)
        whole = Manifest.read(scratch)
        whole.verify(scratch)
    return whole


def open_container(manifest: Manifest, folder: Path, name: str) -> Container:
    """The container of a packed file, whose header and table agree with dareq.json; nothing was allocated.

    Args:
        manifest: Of the packed folder.
        folder: The packed folder.
        name: One of ``manifest.packed``.

    Raises:
        ArtifactError: It is damaged, not listed, or holds another file than dareq.json says.
    """
    entry = manifest.packed[name]
    path = inside(folder, entry.container)
    if entry.container not in manifest.files:
        raise ArtifactError(f"{NAME} in {folder} does not list {entry.container}; pack the folder again")
    container = Container.open(path)
    if (container.nbytes, container.sha256) != (entry.bytes, entry.sha256):
        raise ArtifactError(
            f"{path} holds {container.nbytes} bytes of another file than {NAME} says ({entry.bytes} bytes); "
            "copy or pack the folder again"
        )
    return container


def _unpack_file(container: Container, entry: PackedEntry, target: Path) -> Iterator[int]:
    """Write one file; yields the bytes of every frame."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = sha256()
    with target.open("wb") as file:
        for _, data in container.frames():
            digest.update(data)
            file.write(data)
            yield len(data)
    if digest.hexdigest() != entry.sha256:
        raise ArtifactError(
            f"{container.path} does not unpack to the file {NAME} says; copy or pack the folder again"
        )
