"""Resident memory of this process, from what the system tells without extra packages."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> int | None:
    """Bytes resident now; ``None`` where the system has no /proc (macOS, Windows)."""
    return _status("VmRSS:")


def peak_resident() -> int | None:
    """Most bytes ever resident.

    Linux: VmHWM, because ru_maxrss starts at the parent's size where the process was forked from a large one.
    Elsewhere getrusage; ``None`` on Windows, which has neither.
    """
    found = _status("VmHWM:")
    if found is not None or sys.platform == "win32":
        return found
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(field: str) -> int | None:
    """A line of /proc/self/status, which counts in KiB."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field)), None)
