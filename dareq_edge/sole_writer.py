"""One process at a time writes a folder, and takes away what one that was killed left behind.

    .out.lock              held with flock while ``out`` is written; the system lets go of it when the process dies
    .out.1a2b3c4d.partial  a scratch folder; without a living owner it is rubbish
    .out.1a2b3c4d.old      the folder that was replaced, where names cannot be exchanged at once (see ``folders``)

A signal that a process can see removes all three.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dareq_edge.errors import SpecError

try:
    import fcntl

    _LOCKS = True
except ImportError:  # Windows: nothing is locked, and nothing taken away
    _LOCKS = False


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Hold the right to write ``out``, whose parent exists, until the block ends.

    Where the system or the file system has no locks, the block just runs.

    Args:
        out: The folder or file that will be written.

    Raises:
        SpecError: Another process is writing it.
        OSError: The place cannot be written.
    """
    lock = out.with_name(f".{out.name}.lock")
    handle = _take(lock, out)
    if handle is None:
        yield
        return
    try:
        _clear(out)
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _take(lock: Path, out: Path) -> int | None:
    """The handle that holds the lock; ``None`` where there are none."""
    if not _LOCKS:
        return None
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return None
            raise SpecError(f"another process is writing {out}; wait for it, or choose another --out") from error
        if os.fstat(handle).st_nlink:
            return handle
        os.close(handle)  # its owner finished, and removed it, between the two calls


def _clear(out: Path) -> None:
    """Put back or remove what killed processes left: nobody else is writing here."""
    name = re.escape(out.name)
    leftover = re.compile(rf"\.{name}\.[a-z0-9_]{{8}}\.(partial|old)")
    for path in [p for p in out.parent.iterdir() if leftover.fullmatch(p.name)]:
        if path.suffix == ".old" and not out.exists():
            path.rename(out)
        else:
            remove(path)


def remove(path: Path) -> None:
    """Remove a file, a folder with what is in it, or a link but not what it leads to; as far as that goes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
