"""mobile: an exported folder in onnxruntime's ORT format, proven equal to where it came from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.errors import ArtifactError, ExportError, SpecError
from dareq_edge.folders import new_folder
from dareq_edge.manifest import Manifest, refuse_packed
from dareq_edge.records import read_json

if TYPE_CHECKING:
    from dareq_runtime import OnnxModel

MODEL = "model.ort"
OPERATOR_FILES = ("required_operators.config", "required_operators_and_types.config")
GENAI = "genai_config.json"
TOLERANCE = 1e-5
"""Largest difference of a logit, as a share of the largest: the same kernels run, in the same order."""
PROVEN = 32


def package(folder: Path, out: Path, *, overwrite: bool = False) -> Manifest:
    """Write a folder whose model is one file in ORT format, with the operators a reduced build needs.

    Args:
        folder: A folder that ``dareq-edge export`` wrote, of the native profile.
        out: Folder to create; it appears whole or not at all.
        overwrite: Replace ``out`` if it exists.

    Returns:
        The manifest, as written to ``out/dareq.json``.

    Raises:
        ArtifactError: The folder is not ours, was modified, or is too large for the format.
        SpecError: The folder's profile or format cannot be converted, or ``out`` exists.
        ExportError: What was written computes something else.
    """
    from dareq_export.one_table import one_table_graph
    from dareq_runtime.folder import read_manifest
    from dareq_runtime.ort_format import write_ort, write_required_operators

    manifest = read_manifest(folder)
    _refuse(manifest, folder)
    manifest.verify(folder)
    weights = {t.file for t in manifest.tensors.values()}
    replaced = {manifest.graph, *weights, GENAI}
    with new_folder(out, overwrite=overwrite) as scratch:
        graph = one_table_graph(folder / manifest.graph)
        _refuse_large(len(graph) + sum(manifest.files[name].bytes for name in weights), folder)
        write_ort(graph, folder, scratch / MODEL)
        write_required_operators(scratch / MODEL, scratch)
        for name in manifest.files.keys() - replaced:
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, scratch / name)
        if GENAI in manifest.files:
            _write_genai(folder / GENAI, scratch / GENAI)
        written = _described(manifest).with_files(scratch)
        written.write(scratch)
        _prove(folder, scratch)
    return written


def _refuse(manifest: Manifest, folder: Path) -> None:
    """Refuse what the format cannot hold without losing what makes it fast."""
    from dareq_runtime.ort_format import SUFFIX

    refuse_packed(folder)
    if manifest.graph.endswith(SUFFIX):
        raise SpecError(f"{folder} is in ORT format already; give the folder that dareq-edge export wrote")
    if manifest.profile != "native":
        raise SpecError(
            f"{folder} has the {manifest.profile} profile, whose int4 kernels onnxruntime finds while it reads an "
            "ONNX file, never an ORT one; export it again with --profile native"
        )


def _refuse_large(size: int, folder: Path) -> None:
    from dareq_runtime.ort_format import LARGEST

    if size > LARGEST:
        raise ArtifactError(
            f"the model in {folder} has {size / 1e9:.2f} GB and a file in ORT format holds at most "
            f"{LARGEST / 1e9:.2f}; ship the ONNX folder as it is, or quantize to fewer bits"
        )


def _write_genai(source: Path, out: Path) -> None:
    """onnxruntime-genai's description, with the file's new name, and mapped: it passes on every key of a session."""
    from dareq_runtime.ort_format import MAPPED

    try:
        data = read_json(source)
        decoder = data["model"]["decoder"]
        decoder |= {"filename": MODEL, "session_options": decoder.get("session_options", {}) | MAPPED}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{source} cannot be read ({error!r}); export the folder again") from error
    out.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _described(manifest: Manifest) -> Manifest:
    """The manifest of the same tensors in one file whose container keeps its own index."""
    from dareq_runtime.ort_format import MAPPED

    tensors = {name: replace(t, file=MODEL, offset=None) for name, t in manifest.tensors.items()}
    sessions = {c: replace(s, entries={**s.entries, **MAPPED}) for c, s in sorted(manifest.sessions.items())}
    return replace(manifest, tensors=tensors, pieces={}, graph=MODEL, sessions=sessions)


def _prove(before: Path, after: Path) -> None:
    """Run both folders, in both computes, on the same tokens."""
    import dareq_runtime

    for compute in ("int8", "fp32"):
        old = dareq_runtime.load(before, compute=compute, threads=1, verify=False)
        new = dareq_runtime.load(after, compute=compute, threads=1, verify=False)
        _compare(old, new, compute)


def _compare(old: OnnxModel, new: OnnxModel, compute: str) -> None:
    import numpy as np

    count = min(PROVEN, old.context_length)
    ids = np.random.default_rng(0).integers(0, old.vocab_size, count)
    expected = old.logits(ids)
    error = float(np.abs(new.logits(ids) - expected).max() / np.abs(expected).max())
    if not error <= TOLERANCE:
        raise ExportError(
            f"the converted model differs from the exported one by {error:.1e} of the largest logit in {compute} "
            "compute; report this with the version of onnxruntime"
        )
