"""Folders worth packing, for the tests: small, without torch."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from dareq_edge.manifest import NAME, Manifest, TensorEntry
from dareq_runtime.initializers import external_tensors
from tiny_decoder import Shape, TinyDecoder

SMALLEST = Shape(vocab=40, hidden=32, heads=1, kv_heads=1, ffn=32, layers=1, context=24)


def tiny_export(folder: Path, shape: Shape = SMALLEST) -> Path:
    """A tiny decoder whose dareq.json names its tensors, as an export's does."""
    TinyDecoder(shape).write(folder)
    tensors = {}
    for t in external_tensors((folder / "model.onnx").read_bytes()):
        codes = t.dtype == "u1"
        shape = (t.shape[0], 2 * t.nbytes // t.shape[0]) if codes else t.shape
        bits, method = (4, "rtn") if codes else (32, None)
        tensors[t.name] = TensorEntry(shape, bits, "test", method, t.location, t.offset, t.nbytes)
    replace(Manifest.read(folder), tensors=tensors).write(folder)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def reseal(folder: Path, **changes: Any) -> None:
    """Change entries of a packed folder's dareq.json and seal it again, as someone who means harm would."""
    data = json.loads((folder / NAME).read_text(encoding="utf-8")) | changes
    data["sha256"] = "0" * 64
    text = json.dumps(data, indent=1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    (folder / NAME).write_bytes(text.replace("0" * 64, digest).encode())


class Flips:
    """A file of which one byte at a time is another; the handle stays open, which is what makes all of them fast."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR)
        self._whole = path.read_bytes()

    def __len__(self) -> int:
        return len(self._whole)

    def flip(self, at: int, mask: int) -> None:
        """Change a byte."""
        os.pwrite(self._file, bytes([self._whole[at] ^ mask]), at)

    def cut(self, size: int) -> None:
        """Keep the first bytes only."""
        os.ftruncate(self._file, size)

    def restore(self) -> None:
        """As it was."""
        os.pwrite(self._file, self._whole, 0)
        os.ftruncate(self._file, len(self._whole))
