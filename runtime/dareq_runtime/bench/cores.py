"""How many threads a session gets when nobody says a number."""

from __future__ import annotations

import os
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")


def default_threads(topology: Path = _TOPOLOGY) -> int:
    """Physical cores this process may use, which is what onnxruntime takes by default.

    Where the system does not tell which logical CPUs share a core, every logical CPU counts.

    Args:
        topology: Linux's description of the CPUs.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cpus = sorted(os.sched_getaffinity(0))
    cores = set()
    for cpu in cpus:
        try:
            cores.add((topology / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii").strip())
        except OSError:
            cores.add(str(cpu))
    return max(len(cores), 1)
