"""Where a report's numbers are from: versions, machine, hashes of files."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.folders import sha256_of
from dareq_edge.manifest import NAME, Manifest
from dareq_edge.reporting.records import HashedFile, Origin

if TYPE_CHECKING:
    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.cli.pages import Page

_PACKAGES = (
    "dareq-edge",
    "torch",
    "transformers",
    "safetensors",
    "numba",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "tokenizers",
    "numpy",
    "zstandard",
)
_SMALL = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
)


def origin_of(
    page: Page,
    *,
    source: Checkpoint | None = None,
    folder: Path | None = None,
    files: tuple[HashedFile, ...] = (),
    threads: int | str | None = None,
) -> Origin:
    """Gather it.

    Args:
        page: Names the command.
        source: The float model; its files are read and hashed.
        folder: What was made or measured.
        files: Its files.
        threads: As asked for.
    """
    return Origin(
        command=page.command,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        machine=_machine(threads),
        versions=_versions(),
        source=None if source is None else source.source,
        revision=None if source is None else source.revision,
        source_files=() if source is None else source_files(source),
        folder=None if folder is None else str(folder),
        files=files,
        settings=page.settings,
    )


def manifest_files(manifest: Manifest, folder: Path | None = None) -> tuple[HashedFile, ...]:
    """The files a manifest vouches for, and dareq.json itself, if ``folder`` is there to read it from."""
    listed = [HashedFile(name, entry.bytes, entry.sha256) for name, entry in sorted(manifest.files.items())]
    if folder is not None and (folder / NAME).is_file():
        listed.append(_hashed(folder / NAME))
    return tuple(listed)


def source_files(checkpoint: Checkpoint) -> tuple[HashedFile, ...]:
    """Configuration, tokenizer and weights of a float model."""
    small = [checkpoint.folder / name for name in _SMALL]
    weights = sorted({info.file for info in checkpoint.tensors.values()})
    return tuple(_hashed(path) for path in [*(p for p in small if p.is_file()), *weights])


def _hashed(path: Path) -> HashedFile:
    return HashedFile(path.name, path.stat().st_size, sha256_of(path))


def _versions() -> Mapping[str, str]:
    found = {"Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _machine(threads: int | str | None) -> Mapping[str, str]:
    from dareq_runtime.environment import describe_environment

    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {
        "system": platform.platform(),
        "environment": describe_environment(),
        "cores": str(cores),
        "threads": "one per core" if threads is None else str(threads),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
    }
