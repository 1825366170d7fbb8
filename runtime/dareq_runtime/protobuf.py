"""The protobuf wire format, as far as reading needs it; the onnx package is no part of the runtime."""

from __future__ import annotations

from collections.abc import Iterator


def parts(data: memoryview, wanted: int) -> list[memoryview]:
    """Contents of every length-delimited field with this number."""
    return [v for number, v in fields(data) if number == wanted and not isinstance(v, int)]


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of every field of a message; fixed-width numbers are skipped.

    Raises:
        ValueError: These bytes are no message.
        IndexError: They are cut off.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("cut off")
            yield key >> 3, data[at : at + size]
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def varints(data: memoryview) -> list[int]:
    """A packed field of whole numbers."""
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def text(data: memoryview) -> str:
    """A string.

    Raises:
        ValueError: It is not UTF-8.
    """
    return bytes(data).decode()
