"""write_kit: an exported folder, the tokens it is judged on, and what the host predicted for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import dareq_edge
from dareq_edge.errors import ArtifactError
from dareq_edge.folders import new_file, new_folder
from dareq_edge.manifest import NAME, FileEntry
from dareq_edge.progress import Progress, silent
from dareq_edge.report import ScoreReport
from dareq_runtime.kit import cpus, layout
from dareq_runtime.kit.archive import Add, add_to_folder, add_to_zip
from dareq_runtime.kit.layout import Kit, KitModel
from dareq_runtime.kit.references import write_references
from dareq_runtime.loading import load
from dareq_runtime.model import OnnxModel
from dareq_runtime.scorer import CHUNK
from dareq_runtime.scoring import make_report
from dareq_runtime.tokens import TokenSet
from dareq_runtime.windows import WindowProtocol, describe


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        out: The folder or zip.
        bytes: Its files' bytes together.
        digest: sha256 of kit.json, which results name.
        kit: kit.json.
    """

    out: Path
    bytes: int
    digest: str
    kit: Kit


def write_kit(
    folder: Path,
    out: Path,
    tokens: TokenSet,
    protocol: WindowProtocol,
    *,
    threads: int | None = None,
    overwrite: bool = False,
    chunk: int = CHUNK,
    progress: Progress = silent,
) -> Written:
    """Write a kit, whole or not at all.

    The host's references are measured here, with int8 and with fp32 compute, one session open at a time.

    Args:
        folder: A folder that ``dareq-edge export`` wrote, of any profile; it is verified.
        out: Folder to create, or a zip if the name ends in ".zip".
        tokens: What is predicted.
        protocol: How it is cut into windows.
        threads: Threads of onnxruntime.
        overwrite: Replace ``out`` if it exists.
        chunk: Positions per forward pass, on the host and on the device.
        progress: Called while measuring and copying.

    Raises:
        ArtifactError: The folder is not ours, incomplete or modified; or there is no room for the kit.
        DataError: The tokens do not fit the model or the protocol.
        SpecError: ``out`` exists, or a window is longer than the model's context.
    """
    with new_folder(out, overwrite=overwrite) if out.suffix != ".zip" else new_file(out, overwrite=overwrite) as made:
        scratch = made if out.suffix != ".zip" else made.parent
        measured = _measure(folder, scratch, tokens, protocol, threads, chunk, progress)
        ...
