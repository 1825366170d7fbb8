"""Which cores of a phone or board are the fast ones, from what the Linux kernel says about them."""

from __future__ import annotations

import os
from pathlib import Path

SYSTEM = Path("/sys/devices/system/cpu")
SHARE = 0.5
"""A core with at least this share of the fastest one's capacity is big. Efficiency cores have a fifth to a third of
it, the second rank of big cores two thirds and more."""

_SOURCES = ("cpu_capacity", "cpufreq/cpuinfo_max_freq")  # the first counts work, only ARM has it; the second clocks


def usable_cores() -> tuple[int, ...]:
    """Numbers of the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def big_cores(system: Path = SYSTEM) -> int:
    """How many of the usable cores are big; all of them where the kernel does not say or they are alike.

    Args:
        system: The kernel's folder of cores.
    """
    usable = usable_cores()
    for source in _SOURCES:
        found = [_number(system / f"cpu{core}" / source) for core in usable]
        if all(found):
            return sum(capacity >= SHARE * max(found) for capacity in found)
    return len(usable)


def _number(path: Path) -> int:
    """The number in a file; 0 where there is none."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
