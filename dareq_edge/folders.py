"""Folders that appear whole or not at all: written beside the target, then renamed."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dareq_edge.errors import ArtifactError, DareqError, SpecError
from dareq_edge.sole_writer import remove, sole_writer


@contextmanager
def new_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a scratch folder beside ``out`` that becomes ``out`` when the block ends without an error.

    On any error or interrupt the scratch folder is removed and an existing ``out`` is untouched. A process that is
    killed leaves a hidden scratch folder, which the next one that writes ``out`` removes.

    Args:
        out: Folder to create.
        overwrite: Replace ``out`` if it exists.

    Raises:
        SpecError: ``out`` exists and is not an empty folder, and ``overwrite`` is false; or another process is
            writing it.
        ArtifactError: The disk is full or the place cannot be written.
    """
    out = Path(os.path.abspath(out))
    with _scratch_beside(out, overwrite=overwrite, folder=True) as scratch:
        yield scratch
        scratch.chmod(0o755)
        _put(scratch, out, overwrite=overwrite)


@contextmanager
def new_file(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield the path of a file in a scratch folder beside ``out``; the file becomes ``out`` as in ``new_folder``.

    The folder is the block's own for whatever else it needs meanwhile.

    Raises:
        SpecError: ``out`` exists and ``overwrite`` is false; or another process is writing it.
        ArtifactError: The disk is full or the place cannot be written.
    """
    out = Path(os.path.abspath(out))
    with _scratch_beside(out, overwrite=overwrite) as scratch:
        yield scratch / out.name
        _put(scratch / out.name, out, overwrite=overwrite)


@contextmanager
def _scratch_beside(out: Path, *, overwrite: bool, folder: bool = False) -> Iterator[Path]:
    """A folder beside ``out``, gone at the end of the block, whose errors are said in words."""
    with ExitStack() as stack:
        try:
            _check_free(out, overwrite=overwrite, folder=folder)
            out.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(sole_writer(out))
            _check_free(out, overwrite=overwrite, folder=folder)  # whoever held it may have just finished
            scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
        except OSError as error:
            raise ArtifactError(f"cannot create {out}: {error.strerror}; choose a writable --out") from error
        stack.callback(remove, scratch)
        try:
            yield scratch
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise ArtifactError(f"no space left while writing {out}; free some disk and run again") from error
            raise


def _check_free(out: Path, *, overwrite: bool, folder: bool) -> None:
    empty = folder and out.is_dir() and not any(out.iterdir())
    if out.exists() and not overwrite and not empty:
        raise _taken(out)


def _taken(out: Path) -> SpecError:
    return SpecError(f"{out} already exists; choose another --out or pass --overwrite")


def _put(made: Path, out: Path, *, overwrite: bool) -> None:
    """Put ``made`` at ``out``. What was there is left where ``made`` was, or is removed once the new one is in place.

    Nobody sees a moment without either where the system can exchange names (Linux) or ``out`` is a file.
    """
    if not overwrite or not out.exists():
        try:
            made.rename(out)  # replaces an empty folder, and no other
        except OSError as error:
            if out.exists():  # it was made meanwhile, by whoever it was
                raise _taken(out) from error
            raise
    elif made.is_file() and out.is_file():
        made.replace(out)
    elif not exchange(made, out):
        old = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.old")
        out.rename(old)
        try:
            made.rename(out)
        except OSError:
            old.rename(out)
            raise
        remove(old)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once, with Linux's renameat2; false where that cannot be done, and nothing was."""
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        call = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return int(call(here, os.fsencode(one), here, os.fsencode(other), swap)) == 0


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inside(folder: Path, name: str, error: type[DareqError] = ArtifactError) -> Path:
    """The path of ``name`` in ``folder``.

    A symbolic link may lead to another place of the folder, and where the hub's cache puts the files of a snapshot.

    Raises:
        DareqError: ``name`` is absolute or leads out of the folder, or is a link that does; of the class ``error``.
    """
    parts = name.replace("\\", "/").split("/")
    if not name or Path(name).is_absolute() or not parts[0] or ".." in parts or ":" in parts[0] or "\0" in name:
        raise error(f"{name!r} in {folder} leads out of the folder; the folder was tampered with, get it again")
    path = folder / name
    try:
        os.lstat(path)
    except OSError as found:
        if found.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
            raise error(
                f"{name!r:.80} in {folder} cannot be a file ({found.strerror}); get the folder again"
            ) from found
    if not _stays(folder, path):
        raise error(f"{name!r} in {folder} is a link that leads out of the folder; put the file itself there")
    return path


def _stays(folder: Path, path: Path) -> bool:
    """Whether a path ends up in its folder, or, from models--x--y/snapshots/COMMIT, in models--x--y/blobs."""
    root, end = Path(os.path.realpath(folder)), Path(os.path.realpath(path))
    blobs = root.parent.parent / "blobs"
    return end.is_relative_to(root) or (root.parent.name == "snapshots" and end.is_relative_to(blobs))
