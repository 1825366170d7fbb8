"""Where a kit's files go and come from: a folder, or a zip of one folder."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from dareq_edge.errors import ArtifactError
from dareq_edge.folders import inside
from dareq_edge.manifest import FileEntry
from dareq_edge.records import read_bytes
from dareq_runtime.kit.layout import KIT_JSON

BLOCK = 1 << 20
LARGEST = 512 << 20
"""Bytes of the largest file that is read whole: a million losses have 8 MB."""
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The same kit is the same zip, byte for byte."""

Add = Callable[[str, Path], FileEntry]
"""Called as ``add(name, source)``: copies a file into the kit and gives its size and sha256 as copied."""


def add_to_folder(root: Path) -> Add:
    """Files of a folder."""

    def add(name: str, source: Path) -> FileEntry:
        target = inside(root, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as file, target.open("wb") as copy:
            return _copied(file, copy.write)

    return add


@contextmanager
def add_to_zip(path: Path, root: str) -> Iterator[Add]:
    """Files of a folder ``root`` in a new zip; stored, since int4 codes do not compress and readers may seek.

    Beside that folder lies a __main__.py, so that ``python kit.zip`` unpacks the kit and runs it.
    """
    with zipfile.ZipFile(path, "x", zipfile.ZIP_STORED) as archive:
        _into(archive, "__main__.py", Path(__file__).with_name("zip_main.py"))
        yield lambda name, source: _into(archive, f"{root}/{name}", source)


def _into(archive: zipfile.ZipFile, name: str, source: Path) -> FileEntry:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = 0o644 << 16
    info.file_size = source.stat().st_size
    with source.open("rb") as file, archive.open(info, "w") as copy:
        return _copied(file, copy.write)


def _copied(source: BinaryIO, write: Callable[[bytes], object]) -> FileEntry:
    """Copy and hash the same bytes, so that a file that changes meanwhile is what its hash says."""
    digest, size = sha256(), 0
    while block := source.read(BLOCK):
        write(block)
        digest.update(block)
        size += len(block)
    return FileEntry(size, digest.hexdigest())


Read = Callable[[str], bytes]
"""Called as ``read(name)``: the content of one small file."""


@contextmanager
def reading(kit: Path) -> Iterator[Read]:
    """Read small files of a kit, given as a folder or a zip.

    Raises:
        ArtifactError: It is neither, or a file is missing or cannot be read.
    """
    if kit.is_dir():
        yield lambda name: _read(kit, lambda: read_bytes(inside(kit, name), LARGEST), name)
        return
    try:
        archive = zipfile.ZipFile(kit)
    except FileNotFoundError as error:
        raise ArtifactError(f"there is no kit {kit}; give the folder or zip that dareq-edge bundle wrote") from error
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise ArtifactError(f"{kit} is neither a kit's folder nor its zip ({error}); bundle it again") from error
    with archive:
        places = [n for n in archive.namelist() if n.split("/")[-1] == KIT_JSON]
        root = min(places, key=len, default=KIT_JSON).removesuffix(KIT_JSON)
        yield lambda name: _read(kit, lambda: _stored(archive, root + name), name)


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """A file as it lies in the zip; one that would have to be decompressed is none of ours, and may be a bomb."""
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > LARGEST:
        raise ValueError(f"{info.file_size} bytes, compressed or too many")
    return archive.read(info)


def _read(kit: Path, read: Callable[[], bytes], name: str) -> bytes:
    try:
        return read()
    except (OSError, KeyError, ValueError, EOFError, struct.error, RuntimeError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{name} of {kit} is missing or cannot be read ({error}); bundle it again") from error
