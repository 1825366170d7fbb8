"""Changed files, each made by a number, so that a failure can be had again."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

NUMBERS = (0, 1, 127, 128, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**40, 2**63, -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e308),
    *(float("inf"), float("nan"), "", "x", "4", "\0", "a\nb", "\x1b[31mred", "\ud800", "é" * 300, "x" * 20000),
    *("../../../../etc/passwd", "/etc/passwd", "..\\x", "C:/x", "//host/x", ".", "./dareq.json", "model.onnx/x"),
    *([], {}, [[]], [None], ["x"], [1, 2, 3], {"a": 1}, [[["deep"]]], {"": {}}, [2**63] * 3, ["../x"] * 2),
)


def changed_bytes(content: bytes, number: int) -> bytes:
    """One to four changes of bytes: flips, cuts, insertions, repetitions, numbers that count for something."""
    random = Random(number)
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        random.choice(_BYTE_CHANGES)(data, random)
    if bytes(data) == content:
        data += b"\0"
    return bytes(data)


def changed_json(content: bytes, number: int) -> bytes:
    """One or two changes of a JSON text that stays one: values and keys replaced, removed, added, nested."""
    random = Random(number)
    data = json.loads(content)
    for _ in range(random.choice((1, 1, 2))):
        data = _changed_value(data, random)
    if random.random() < 0.02:
        return b"[" * 100_000 + content
    return json.dumps(data).encode()


def _changed_value(data: Any, random: Random) -> Any:
    places = list(_places(data))
    if not places or random.random() < 0.02:
        return copy.deepcopy(random.choice(VALUES))
    holder, key = random.choice(places)
    kind = random.random()
    if kind < 0.7:
        holder[key] = random.choice(VALUES)
    elif kind < 0.8:
        del holder[key]
    elif kind < 0.9 and isinstance(holder, dict):
        new = random.choice([value for value in VALUES if isinstance(value, str)])
        holder[new] = holder.pop(key) if random.random() < 0.5 else holder[key]
    else:
        other, name = random.choice(places)
        there = name in other or (isinstance(other, list) and name < len(other))
        holder[key] = copy.deepcopy(other[name]) if there else None  # no value may hold itself
    return json.loads(json.dumps(data))


def _places(data: Any) -> Any:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield data, key
        yield from _places(value)


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _byte(data: bytearray, random: Random) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))


def _cut(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data) + 1) :]


def _remove(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    del data[at : at + random.choice((1, 2, 4, 8, 64))]


def _insert(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(random.choice((1, 2, 8, 64)))


def _repeat(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = data[at : at + random.choice((1, 8, 64, 1024))]


def _zero(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    size = len(data[at : at + 16])
    data[at : at + size] = bytes(size)


def _number(data: bytearray, random: Random) -> None:
    value = random.choice(NUMBERS)
    raw = struct.pack("<Q", value)[: random.choice((1, 2, 4, 8))]
    at = random.randrange(len(data) + 1)
    data[at : at + len(raw)] = raw


_BYTE_CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    *(_flip, _flip, _byte, _byte, _cut, _remove, _insert, _repeat, _zero, _number, _number),
)
