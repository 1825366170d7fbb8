"""Tensors of work in progress: each file appears whole or not at all, so that an interrupted call can go on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dareq_edge.errors import ArtifactError


def keep(path: Path, tensors: Mapping[str, torch.Tensor], about: Mapping[str, str]) -> None:
    """Write a safetensors file; its folder is made if it is not there.

    Raises:
        ArtifactError: The disk is full or the place cannot be written.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors), partial, metadata=dict(about))
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(
            f"cannot keep the work so far in {path.parent} ({error}); free some disk and run again"
        ) from error


@contextmanager
def reading(path: Path, what: Path | None = None) -> Iterator[Any]:  # safetensors' reader, which has no types
    """A file that ``keep`` wrote.

    Args:
        path: The file.
        what: What to remove if it is damaged; ``None`` is the file itself.

    Raises:
        ArtifactError: The file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); remove {what or 'it'} and run again") from error
