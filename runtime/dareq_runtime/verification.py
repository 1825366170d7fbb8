"""sha256 of a folder's files, computed while other work goes on."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from dareq_edge.manifest import Manifest

SMALL = 2**20
"""Bytes. Smaller files, the graph among them, are checked before anything reads them."""


@contextmanager
def verified(manifest: Manifest, folder: Path, *, hashes: bool = True) -> Iterator[None]:
    """Check every file of a folder; the block runs while the large ones are read.

    hashlib and onnxruntime let other threads run, so with two cores the check costs little beside opening a session.
    The files are read in pieces, not mapped, so their pages do not count as this process's memory.

    Args:
        manifest: What the folder should hold.
        folder: The folder.
        hashes: Compare sha256; sizes are compared in any case.

    Raises:
        ArtifactError: A file is missing, leads out of the folder, or differs. It leaves the block's own error behind,
            which is then most likely its consequence; what the block made must not be used.
    """
    manifest.verify(folder, hashes=False)
    if not hashes:
        yield
        return
    small = {n: f for n, f in manifest.files.items() if f.bytes < SMALL}
    large = {n: f for n, f in manifest.files.items() if n not in small}
    replace(manifest, files=small).verify(folder)
    with ThreadPoolExecutor(1, "sha256") as pool:
        check = pool.submit(replace(manifest, files=large).verify, folder)
        try:
            yield
        finally:
            check.result()
