"""JSON from files that nobody vouches for. Whatever is wrong with one is an OSError or a ValueError.

The standard parser alone lets through what breaks later: it overflows the stack on deep nesting, waits at a pipe,
reads a file of any size, and gives halves of characters that no file name or terminal can hold.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

LARGEST = 64 << 20
"""Bytes of the largest record: dareq.json of 100,000 tensors has 25 MB."""

_Made = TypeVar("_Made")
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float, int),
    "str | None": (str, type(None)),
    "int | None": (int, type(None)),
    "float | None": (float, int, type(None)),
}


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """Content of a regular file.

    Raises:
        OSError: It is missing or cannot be read.
        ValueError: It is no regular file, or larger than ``largest`` bytes.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):  # opening a pipe would wait for ever
        raise ValueError("no regular file")
    if found.st_size > largest:
        raise ValueError(f"{found.st_size} bytes, {largest} are the most such a file has")
    return path.read_bytes()


def parse_json(content: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: It is none, is nested too deeply, or holds half a character (a lone surrogate).
    """
    try:
        data = json.loads(content.decode())
        if b"\\ud" in content.lower():
            json.dumps(data, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return data


def read_json(path: Path, largest: int = LARGEST) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: It is missing or cannot be read.
        ValueError: As of ``read_bytes`` and ``parse_json``.
    """
    return parse_json(read_bytes(path, largest))


def typed(kind: type[_Made], data: Mapping[str, Any]) -> _Made:
    """A dataclass whose fields are numbers and texts, from its record.

    Args:
        kind: Its fields are annotated with one of str, int, float, each with | None or without, or are not checked.
        data: Value by name.

    Raises:
        TypeError: A field is missing or unknown, has a value of another type, or a count is negative.
    """
    if unknown := sorted(set(data) - {field.name for field in fields(kind)}):  # type: ignore[arg-type]
        raise TypeError(f"{unknown[0]!r:.80}, which is no field")
    made = kind(**data)
    for field in fields(made):  # type: ignore[arg-type]  # it is a dataclass
        value = getattr(made, field.name)
        allowed = _TYPES.get(str(field.type))
        if allowed is None:
            continue
        if not isinstance(value, allowed) or isinstance(value, bool):
            raise TypeError(f"{field.name} {value!r:.80}")
        if isinstance(value, int) and not 0 <= value < 1 << 63:
            raise TypeError(f"{field.name} {value}"[:80])
    return made
