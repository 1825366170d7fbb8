"""An exported folder under the file names that transformers.js looks for; nothing is computed again.

model.onnx       → onnx/model_q4.onnx          only the names of its data files differ
model.onnx.data  → onnx/model_q4.onnx_data     the same file where the disk can link, else a copy
config.json      → config.json                 with what transformers.js reads: "q4", and how many data files
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import onnx

from dareq_edge.errors import ArtifactError, SpecError
from dareq_edge.folders import inside, new_folder
from dareq_edge.manifest import NAME, Manifest, refuse_packed
from dareq_export.clients import browser_config
from dareq_export.profiles import PROFILES
from dareq_export.source import read_object

NAMES = PROFILES["web"]
"""The names alone; operators and session settings stay the folder's own."""


def for_transformers_js(folder: str | Path, out: str | Path, *, overwrite: bool = False) -> Manifest:
    """Lay an exported folder out for transformers.js' ``dtype: "q4"``; other clients open it as well.

    Args:
        folder: What ``export_onnx`` wrote, of a profile that is not laid out so already.
        out: Folder to create; it appears whole or not at all.
        overwrite: Replace ``out`` if it exists.

    Returns:
        The manifest, as written to ``out/dareq.json``.

    Raises:
        ArtifactError: ``folder`` is incomplete or was modified.
        SpecError: ``folder`` is laid out so already, or is no exported folder.
    """
    source = Path(folder)
    manifest = Manifest.read(source)
    if manifest.kind != "onnx":
        raise SpecError(
            f"{source} holds a {manifest.kind}, no ONNX model; give a folder that dareq-edge export wrote"
        )
    refuse_packed(source)
    if manifest.graph == NAMES.graph:
        raise SpecError(f"{source} has the file names of transformers.js already; use it as it is")
    manifest.verify(source)
    graph = _read_graph(inside(source, manifest.graph))
    beside = PurePosixPath(manifest.graph).parent
    renamed = _data_names(graph)
    moved = {str(beside / old): NAMES.from_root(new) for old, new in renamed.items()}
    with new_folder(Path(out), overwrite=overwrite) as scratch:
        (scratch / NAMES.graph).parent.mkdir()
        (scratch / NAMES.graph).write_bytes(_with_locations(graph, renamed).SerializeToString())
        for name in manifest.files:
            if name not in (manifest.graph, "parity.json"):  # parity.json vouches for a file of another name
                _link(inside(source, name), scratch / moved.get(name, name))
        _describe(scratch, len(renamed))
        tensors = {k: replace(t, file=moved.get(t.file, t.file)) for k, t in manifest.tensors.items()}
        manifest = replace(manifest, graph=NAMES.graph, tensors=tensors).with_files(scratch)
        manifest.write(scratch)
    return manifest


def _read_graph(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises a class of its own
        raise ArtifactError(f"{path} is no ONNX graph ({str(error)[:160]!r}); export the folder again") from error


def _data_names(graph: onnx.ModelProto) -> dict[str, str]:
    """Names of the graph's data files → names that transformers.js asks for."""
    found = {x.value for t in graph.graph.initializer for x in t.external_data if x.key == "location"}
    return {name: NAMES.data_file(i) for i, name in enumerate(sorted(found))}


def _with_locations(graph: onnx.ModelProto, renamed: Mapping[str, str]) -> onnx.ModelProto:
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = renamed[entry.value]
    return graph


def _link(old: Path, new: Path) -> None:
    """One file, two names; JSON files are copied, because they may be edited."""
    new.parent.mkdir(parents=True, exist_ok=True)
    if old.suffix != ".json" and old.name != NAME:
        try:
            os.link(old, new)
        except OSError:
            pass
        else:
            return
    shutil.copy(old, new)


def _describe(scratch: Path, data_files: int) -> None:
    """Say the names in config.json (transformers.js) and genai_config.json (onnxruntime-genai)."""
    path = scratch / "config.json"
    config = read_object(path)
    config |= browser_config(NAMES, data_files)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    path = scratch / "genai_config.json"
    config = read_object(path)
    try:
        config["model"]["decoder"]["filename"] = NAMES.graph
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{path.name} has no model.decoder; export the folder again") from error
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
