"""Sizes as people write them.

"60MB" is 60,000,000 bytes, "57.2 MiB" 59,978,547; "4.5bpw" are bits per weight, "256MB-ram" a device's memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from dareq_edge.errors import SpecError

UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
"""Bytes per unit, by its name in lower case."""
PER_WEIGHT = "bpw"
"""The unit of bits per weight."""

_SIZE = re.compile(r"\s*(\d[\d_,]*(?:\.\d+)?|\.\d+)\s*([a-zA-Z]*)\s*")
_MEMORY = re.compile(r"(.*[a-zA-Z])[\s-]ram\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Size:
    """A size, or what it is per weight.

    Attributes:
        bytes: Bytes; ``None`` where bits per weight are given.
        bits_per_weight: Bits of the whole file per parameter of the model.
        memory: Whether bytes are those of the memory that a device has for running it.
    """

    bytes: int | None = None
    bits_per_weight: Decimal = Decimal(0)
    memory: bool = False

    def of(self, parameters: int) -> int:
        """Bytes for a model of so many parameters, never more than was written."""
        return int(self.bits_per_weight * parameters / 8) if self.bytes is None else self.bytes


def parse_size(text: str) -> Size:
    """Read a size in bytes, as ``parse_bytes`` does, in bits per weight, "4.5bpw", or of memory, "256MB-ram".

    Raises:
        SpecError: It is neither.

    Example:
        >>> parse_size("60MB").bytes, parse_size("1 KiB").bytes
        (60000000, 1024)
        >>> parse_size("256MB-ram").memory
        True
        >>> parse_size("4.5bpw").of(parameters=1_000_000)
        562500
    """
    if memory := _MEMORY.fullmatch(text):
        return Size(parse_bytes(memory[1]), memory=True)
    found = _SIZE.fullmatch(text)
    if found is None or found[2].lower() != PER_WEIGHT:
        try:
            return Size(parse_bytes(text))
        except SpecError as error:
            raise SpecError(f"{error}, 4.5{PER_WEIGHT} or 256MB-ram") from error
    bits = Decimal(re.sub("[_,]", "", found[1]))
    if not 0 < bits <= 32:
        raise SpecError(f"size is {text!r}; bits per weight are more than 0 and at most 32, e.g. 4.5bpw")
    return Size(bits_per_weight=bits)


def parse_bytes(text: str) -> int:
    """Read a size.

    Args:
        text: A number and a unit, in any case: B (also meant by none), kB, MB, GB, TB, which are powers of 1,000, or
            KiB, MiB, GiB, TiB, which are powers of 1,024. Groups of digits may be parted by commas or underscores.

    Returns:
        Whole bytes, 1 or more; a fraction of a byte is left out, so that the size is never more than was written.

    Raises:
        SpecError: It is no size.
    """
    found = _SIZE.fullmatch(text)
    unit = found[2].lower() or "b" if found else ""
    if found is None or unit not in UNITS:
        raise SpecError(f"size is {text!r}; write a number and one of B, kB, MB, GB, KiB, MiB, GiB, e.g. 60MB")
    size = int(Decimal(re.sub("[_,]", "", found[1])) * UNITS[unit])
    if size < 1:
        raise SpecError(f"size is {text!r}, which is less than one byte; write a larger one, e.g. 60MB")
    return size


def format_bytes(size: int) -> str:
    """A size for messages, exact beside what is easy to read: ``62.91 MB (62,914,560 bytes)``.

    Args:
        size: Bytes, 0 or more.
    """
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {name} ({size:,} bytes)"
    return f"{size} bytes"
