"""The header of a safetensors file, with the standard library.

    bytes 0-7   n, little-endian
    bytes 8-    n bytes of JSON: {NAME: {"dtype": "U8", "shape": [N, K], "data_offsets": [first, end]}, …}

``data_offsets`` count from the byte after the JSON. Format: safetensors' README, "Format".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dareq_edge.errors import ArtifactError
from dareq_edge.records import parse_json

LARGEST = 100_000_000
"""Bytes of the longest header that safetensors itself accepts."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of the file.

    Attributes:
        dtype: safetensors' name, e.g. "U8".
        shape: Of the tensor.
        offset: First byte in the file.
        nbytes: Its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file by name.

    Raises:
        ArtifactError: The file is no safetensors file.
    """
    with path.open("rb") as file:
        length, size = int.from_bytes(file.read(8), "little"), path.stat().st_size
        if not 0 < length <= min(LARGEST, size - 8):
            raise ArtifactError(f"{path} is not a safetensors file; quantize the checkpoint again")
        text = file.read(length)
    try:
        return {
            k: _tensor(v, 8 + length, size - 8 - length) for k, v in parse_json(text).items() if k != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} has a damaged header ({error}); quantize the checkpoint again") from error


def _tensor(record: dict[str, Any], start: int, room: int) -> StoredTensor:
    (first, end), shape = record["data_offsets"], tuple(record["shape"])
    if not all(type(n) is int and n >= 0 for n in (first, end, *shape)) or not first <= end <= room:
        raise ValueError(f"data_offsets {first!r:.40}, {end!r:.40}, shape {shape!r:.40}")
    return StoredTensor(str(record["dtype"]), shape, start + first, end - first)
