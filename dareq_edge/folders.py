"""Folders that appear whole or not at all: written beside the target, then renamed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dareq_edge.errors import ArtifactError, DareqError, SpecError


@contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a scratch folder beside ``out`` that becomes ``out`` when the block ends without an error.

    On any error or interrupt the scratch folder is removed and an existing ``out`` is untouched.

    Args:
        out: Folder to create.
        overwrite: Replace ``out`` if it exists.

    Raises:
        SpecError: ``out`` exists and is not an empty folder, and ``overwrite`` is false.
        ArtifactError: The disk is full or the place cannot be written.
    """
    out = Path(os.path.abspath(out))
    empty = out.is_dir() and not any(out.iterdir())
    with _scratch_beside(out, overwrite=overwrite or empty) as scratch:
        yield scratch
        scratch.chmod(0o755)
        _swap(scratch, out)


@contextmanager
def new_file(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield the path of a file in a scratch folder beside ``out``; the file becomes ``out`` as in ``new_folder``.

    The folder is the block's own for whatever else it needs meanwhile.

    Raises:
        SpecError: ``out`` exists and ``overwrite`` is false.
        ArtifactError: The disk is full or the place cannot be written.
    """
    out = Path(os.path.abspath(out))
    with _scratch_beside(out, overwrite=overwrite) as scratch:
        yield scratch / out.name
        _swap(scratch / out.name, out)


@contextmanager
def _scratch_beside(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder beside ``out``, gone at the end of the block, whose errors are said in words."""
    if out.exists() and not overwrite:
        raise SpecError(f"{out} already exists; choose another --out or pass --overwrite")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise ArtifactError(f"cannot create {out}: {error.strerror}; choose a writable --out") from error
    try:
        yield scratch
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ArtifactError(f"no space left while writing {out}; free some disk and run again") from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _swap(scratch: Path, out: Path) -> None:
    """Put ``scratch`` at ``out``; an old ``out`` is kept until the new one is in place."""
    if not out.exists():
        scratch.rename(out)
        return
    old = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.old")
    out.rename(old)
    try:
        scratch.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old) if old.is_dir() else old.unlink()


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(folder: Path, name: str, error: type[DareqError] = ArtifactError) -> Path:
    """The path of ``name`` in ``folder``.

    Only the name is judged: a symbolic link in the folder is its owner's doing (the hub's cache is made of them).

    Raises:
        DareqError: ``name`` is absolute or leads out of the folder; of the class ``error``.
    """
    parts = name.replace("\\", "/").split("/")
    if not name or Path(name).is_absolute() or not parts[0] or ".." in parts or ":" in parts[0]:
        raise error(f"{name!r} in {folder} leads out of the folder; the folder was tampered with, get it again")
    return folder / name
