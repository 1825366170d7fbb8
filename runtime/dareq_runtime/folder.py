"""What the runtime reads of an exported folder besides the graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dareq_edge import records
from dareq_edge.errors import ArtifactError
from dareq_edge.folders import inside
from dareq_edge.manifest import Manifest

_READ = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
)
"""What a loaded model reads; without a hash nothing vouches for it."""
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


@dataclass(frozen=True, slots=True)
class OnnxFolder:
    """An exported folder.

    Attributes:
        path: The folder.
        manifest: dareq.json.
        graph: The ONNX file.
        context_length: Longest sequence the model was made for, tokens.
        stop_ids: Ids that end a generation.
        pad_id: Id that stands in for "nothing" in a batch.
    """

    path: Path
    manifest: Manifest
    graph: Path
    context_length: int
    stop_ids: frozenset[int]
    pad_id: int


def read_manifest(path: Path) -> Manifest:
    """dareq.json of an exported folder, whose files are not checked yet (see ``verification``).

    Raises:
        ArtifactError: It is not one of ours.
    """
    if not path.is_dir():
        raise ArtifactError(f"there is no folder {path}; give a folder that dareq-edge export wrote")
    manifest = Manifest.read(path)
    if manifest.kind != "onnx":
        raise ArtifactError(f"{path} holds a {manifest.kind}, not an ONNX model; run dareq-edge export on it first")
    return manifest


def open_folder(path: Path, *, verify: bool = True) -> OnnxFolder:
    """Read and check an exported folder.

    Args:
        path: The folder.
        verify: Compare every file's sha256 with dareq.json; sizes are compared in any case.

    Raises:
        ArtifactError: It is not one of ours, is incomplete, or was modified.
    """
    manifest = read_manifest(path)
    manifest.verify(path, hashes=verify)
    return read_folder(path, manifest)


def read_folder(path: Path, manifest: Manifest) -> OnnxFolder:
    """The facts in the small files of a folder.

    Raises:
        ArtifactError: One is missing or cannot be used.
    """
    graph = inside(path, manifest.graph)
    if not graph.is_file():
        raise ArtifactError(f"{manifest.graph} is missing from {path}; copy or export the folder again")
    for name in (manifest.graph, *_READ):
        if name not in manifest.files and (path / name).exists():
            raise ArtifactError(f"{name} in {path} is not listed in dareq.json; remove it, or copy the folder again")
    config = read_json(path / "config.json")
    generation = read_json(path / "generation_config.json") if (path / "generation_config.json").is_file() else {}
    eos = generation.get("eos_token_id", config.get("eos_token_id"))
    pad = config.get("pad_token_id")
    return OnnxFolder(
        path=path,
        manifest=manifest,
        graph=graph,
        context_length=context_length(config, path),
        stop_ids=_ids(eos, path),
        pad_id=pad if isinstance(pad, int) and pad >= 0 else 0,
    )


def _ids(found: object, path: Path) -> frozenset[int]:
    """eos_token_id: one id, several, or none."""
    ids = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(i) is int for i in ids):
        raise ArtifactError(f"eos_token_id of {path} is {found!r:.80}, no token id; copy or export the folder again")
    return frozenset(ids)


def context_length(config: dict[str, Any], path: Path) -> int:
    """Longest sequence of a config.json, tokens.

    Args:
        config: Its content.
        path: Its folder, for the message.

    Raises:
        ArtifactError: It does not say.
    """
    for key in _CONTEXT_KEYS:
        if type(config.get(key)) is int and 0 < config[key] < 1 << 31:
            return int(config[key])
    raise ArtifactError(f"config.json in {path} has no {_CONTEXT_KEYS[0]}; export the folder again")


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object.

    Raises:
        ArtifactError: It is missing or holds anything else.
    """
    try:
        data = records.read_json(path)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path.name} is missing from {path.parent}; copy or export the folder again") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); copy or export the folder again") from error
    if not isinstance(data, dict):
        raise ArtifactError(f"{path} does not hold a JSON object; copy or export the folder again")
    return data
