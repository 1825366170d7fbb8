"""sha256 of a folder's files, computed while other work goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from dareq_edge.manifest import PIECE, Manifest, mismatch
from dareq_runtime.presets import cores

SMALL = 2**20
"""Bytes. Smaller files, and the graph in any case, are checked before anything reads them."""

_READ = 1 << 16
"""Bytes read at a time. Once larger blocks were freed glibc takes such blocks from the heap, and what onnxruntime has
there stays: after reads of 4 MiB a packed OPT-125m shape needed 63 MB more to load."""


@contextmanager
def verified(manifest: Manifest, folder: Path, *, hashes: bool = True) -> Iterator[None]:
    """Check every file of a folder; the block runs while the large ones are read.

    hashlib and onnxruntime let other threads run, and large files are hashed piece by piece on every core, so the
    check costs little beside opening a session. The files are read, not mapped: their pages do not count as this
    process's memory.

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
    small = {n: f for n, f in manifest.files.items() if f.bytes < SMALL or n == manifest.graph}
    large = {n: f for n, f in manifest.files.items() if n not in small}
    replace(manifest, files=small).verify(folder)
    with ThreadPoolExecutor(cores(), "sha256") as pool:
        running = [pool.submit(check) for check in _checks(replace(manifest, files=large), folder)]
        try:
            yield
        finally:
            for check in running:
                check.result()


def _checks(manifest: Manifest, folder: Path) -> Iterator[Callable[[], None]]:
    """What has to be compared, in parts that can run side by side."""
    for name, entry in manifest.files.items():
        pieces = manifest.pieces.get(name, ())
        if len(pieces) == -(-entry.bytes // PIECE):
            for index, expected in enumerate(pieces):
                yield partial(_compare_piece, folder / name, index, expected)
        else:
            yield partial(replace(manifest, files={name: entry}).verify, folder)


def _compare_piece(path: Path, index: int, expected: str) -> None:
    digest = sha256()
    with path.open("rb", buffering=0) as file:
        file.seek(index * PIECE)
        for _ in range(PIECE // _READ):
            digest.update(file.read(_READ))
    if digest.hexdigest() != expected:
        raise mismatch(path)
