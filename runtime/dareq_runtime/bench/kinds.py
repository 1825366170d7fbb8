"""Which kinds of folder can be measured, and what is read of them before they are opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from dareq_edge.errors import ArtifactError
from dareq_edge.manifest import GRAPH as MODEL
from dareq_edge.manifest import NAME as MANIFEST
from dareq_runtime.bench.contestant import Contestant
from dareq_runtime.folder import context_length, open_folder, read_json

Kind = Literal["dareq", "genai", "onnx"]
GENAI_CONFIG = "genai_config.json"


def kind_of(folder: Path) -> Kind:
    """What a folder is: ours (dareq.json), onnxruntime-genai's, or a plain ONNX decoder.

    Raises:
        ArtifactError: There is no such folder, or it is none of these.
    """
    if not folder.is_dir():
        raise ArtifactError(f"there is no folder {folder}; give a folder with an ONNX model")
    if (folder / MANIFEST).is_file():
        return "dareq"
    if (folder / GENAI_CONFIG).is_file():
        return "genai"
    if (folder / MODEL).is_file():
        return "onnx"
    raise ArtifactError(f"{folder} holds neither {MANIFEST}, {GENAI_CONFIG} nor {MODEL}; give a folder with a model")


def make(kind: Kind, folder: Path, threads: int) -> Contestant:
    """The contestant that runs such a folder, not loaded yet."""
    if kind == "dareq":
        from dareq_runtime.bench.ours import Ours

        return Ours(folder, threads)
    if kind == "genai":
        from dareq_runtime.bench.genai import GenAI

        return GenAI(folder, threads)
    from dareq_runtime.bench.plain import Plain

    return Plain(folder, threads)


def graph_file(folder: Path, kind: Kind) -> Path:
    """The graph of a folder.

    Raises:
        ArtifactError: It is missing.
    """
    if kind == "dareq":
        return open_folder(folder, verify=False).graph
    name = _genai_model(folder).get("decoder", {}).get("filename", MODEL) if kind == "genai" else MODEL
    path = folder / str(name)
    if not path.is_file():
        raise ArtifactError(f"{name} is missing from {folder}; copy or export the folder again")
    return path


def context_of(folder: Path, kind: Kind) -> int | None:
    """Longest sequence the model was made for, tokens; ``None`` where the folder does not say.

    Raises:
        ArtifactError: The folder is incomplete.
    """
    if kind == "dareq":
        return open_folder(folder, verify=False).context_length
    if kind == "genai":
        found = _genai_model(folder).get("context_length")
        return found if isinstance(found, int) else None
    if not (folder / "config.json").is_file():
        return None
    return context_length(read_json(folder / "config.json"), folder)


def _genai_model(folder: Path) -> dict[str, Any]:
    path = folder / GENAI_CONFIG
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error!r}); build the folder again") from error
