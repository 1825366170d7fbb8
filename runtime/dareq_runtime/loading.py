"""load(folder): an exported folder, checked and opened."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dareq_edge.errors import SpecError
from dareq_runtime.folder import read_folder, read_manifest
from dareq_runtime.graph_check import check_graph
from dareq_runtime.model import OnnxModel
from dareq_runtime.packed import decode_weights
from dareq_runtime.presets import DEFAULT, Preset, cores
from dareq_runtime.scorer import CHUNK
from dareq_runtime.session import Compute, Graph, open_graph, session_options
from dareq_runtime.threads import measured_threads
from dareq_runtime.verification import verified

PROMPT_CHUNK = 256
"""Tokens of a prompt per pass where their logits are not needed. Of 32 … 1,024 on prompts of 512 and 1,024 (OPT-125m
shape, one core) 64 to 256 are the fastest and alike; larger ones lose to attention over positions that are masked,
and hold more. The largest of the fast ones spares prompts of up to 256 a second pass."""

Threads = int | Literal["measured"] | None


def load(
    folder: str | Path,
    *,
    compute: Compute = "int8",
    threads: Threads = None,
    verify: bool = True,
    chunk: int | None = None,
    preset: Preset = DEFAULT,
) -> OnnxModel:
    """Open an exported folder, packed or not.

    Args:
        folder: A folder that ``dareq-edge export`` or ``dareq-edge pack`` wrote.
        compute: "int8" as shipped, or "fp32": the same weights in exact arithmetic, for checks; slow.
        threads: Threads within an operator; "measured" tries several for a few steps (up to about three seconds)
            and takes the fastest; ``None`` leaves it to the preset.
        verify: Compare every file's sha256 with dareq.json; sizes are compared in any case, and the checksums of a
            packed folder's frames.
        chunk: Tokens per forward pass when reading prompts; ``None`` takes ``PROMPT_CHUNK``, or ``CHUNK`` for an
            older graph that gives the logits of all of them.
        preset: What the session optimises for: "latency", "memory", "battery" or "mobile".

    Raises:
        ArtifactError: The folder is not ours, incomplete, modified, or refused by onnxruntime.
        SpecError: An option has an unknown value.

    Example:
        >>> model = load("exported", threads=1)
        >>> model.label, model.cache_bits
        ('onnx int8 compute', 32)
        >>> load("elsewhere")
        Traceback (most recent call last):
        dareq_edge.errors.ArtifactError: there is no folder elsewhere; give a folder that dareq-edge export wrote
    """
    if chunk is not None and chunk < 1:
        raise SpecError(f"chunk is {chunk}; use 1 or more")
    if isinstance(threads, str) and threads != "measured":
        raise SpecError(f"threads is {threads!r}; use a number, 'measured', or leave it out")
    number = None if threads == "measured" else threads
    session_options(compute, number, preset)  # refuses unknown values before any file is read
    path = Path(folder)
    manifest = read_manifest(path)
    with verified(manifest, path, hashes=verify):
        facts = read_folder(path, manifest)
        check_graph(path, manifest)
        weights = decode_weights(path, manifest) if manifest.packed else None

        def open_with(count: int | None) -> Graph:
            settings = manifest.sessions[compute]
            return open_graph(
                facts.graph, compute=compute, threads=count, preset=preset, settings=settings, weights=weights
            )

        beside = threads != "measured" and weights is None
        if beside:
            graph = open_with(number)
    if not beside:  # threads are measured when nothing else runs; decoded weights are used when they are known good
        graph = open_with(measured_threads(open_with, cores()) if threads == "measured" else number)
    chunk = chunk or (PROMPT_CHUNK if graph.keeps else CHUNK)
    return OnnxModel(facts, graph, f"onnx {compute} compute", chunk)
