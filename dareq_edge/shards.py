"""ShardWriter: a safetensors folder written as tensors arrive, holding one shard in memory."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

SHARD_BYTES = 256 * 2**20
"""A shard is written once this many bytes wait in memory."""


class ShardWriter:
    """Writes ``model.safetensors``, or Hugging Face's numbered shards and their index.

    Args:
        folder: Existing folder to write into.
        shard_bytes: Flush once the waiting tensors pass this many bytes.
    """

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder = folder
        self._limit = shard_bytes
        self._waiting: dict[str, torch.Tensor] = {}
        self._waiting_bytes = 0
        self._shards: list[list[str]] = []
        self._total = 0

    def add(self, tensors: dict[str, torch.Tensor]) -> None:
        """Take tensors that shall lie in the same shard; they must not change afterwards."""
        size = sum(t.numel() * t.element_size() for t in tensors.values())
        self._waiting |= {name: t.contiguous() for name, t in tensors.items()}
        self._waiting_bytes += size
        self._total += size
        if self._waiting_bytes >= self._limit:
            self._flush()

    def close(self) -> dict[str, str]:
        """Write what waits, give the shards their names, and write the index if there are several.

        Returns:
            File of every tensor, ``{tensor: file name}``.
        """
        if self._waiting or not self._shards:
            self._flush()
        count = len(self._shards)
        files: dict[str, str] = {}
        for i, names in enumerate(self._shards):
            file = "model.safetensors" if count == 1 else f"model-{i + 1:05d}-of-{count:05d}.safetensors"
            self._scratch(i).rename(self._folder / file)
            files |= dict.fromkeys(names, file)
        if count > 1:
            index = {"metadata": {"total_size": self._total}, "weight_map": dict(sorted(files.items()))}
            text = json.dumps(index, indent=2) + "\n"
            (self._folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
        return files

    def _flush(self) -> None:
        path = self._scratch(len(self._shards))
        try:
            save_file(self._waiting, path, metadata={"format": "pt"})
        except SafetensorError as error:  # its text is all that says which system error it was
            found = re.search(r"os error (\d+)", str(error))
            if found:
                raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error
            raise
        self._shards.append(list(self._waiting))
        self._waiting, self._waiting_bytes = {}, 0

    def _scratch(self, i: int) -> Path:
        return self._folder / f"shard-{i}.partial"
