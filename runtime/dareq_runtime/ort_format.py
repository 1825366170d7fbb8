"""onnxruntime's ORT format, the one format that minimal builds read, and the operators such a build needs.

The file is a flatbuffer that holds graph and weights. It is written without optimizations: those that onnxruntime
would bake in are either none on our graphs, or replace operators by others (``SkipLayerNormalization``,
``QuickGelu``) that are no faster, or depend on the processor (channels-last convolutions). What
kernels pack for one processor is never part of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnxruntime as ort

from dareq_edge.errors import ArtifactError
from dareq_runtime.session import first_line

SUFFIX = ".ort"
LARGEST = 2**31 - 1
"""Bytes: flatbuffers count in signed 32-bit numbers."""

OPERATORS = "required_operators.config"
TYPED_OPERATORS = "required_operators_and_types.config"

MAPPED = {"session.use_memory_mapped_ort_model": "1", "session.use_ort_model_bytes_for_initializers": "1"}
"""Session entries that map such a file and read its weights in place, as is always done with external data; without
them onnxruntime reads all of it and copies the weights. Versions that do not know the first ignore both."""

_TOOL = """
import pathlib, sys
sys.modules["torch"] = None
from onnxruntime.tools.ort_format_model import create_config_from_models
model, bare, typed = map(pathlib.Path, sys.argv[1:])
create_config_from_models([model], bare, False)
create_config_from_models([model], typed, True)
"""
"""Run in a process of its own: the tool's import sets the root logger, extends sys.path, and imports torch."""


def write_ort(graph: bytes, folder: Path, out: Path) -> None:
    """Write a graph and its weights in ORT format.

    Args:
        graph: A serialized ONNX graph.
        folder: Where its external data lies.
        out: The file to write, which ends in ".ort".

    Raises:
        ArtifactError: onnxruntime refuses the graph.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(out)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.add_session_config_entry("session.disable_prepacking", "1")  # nothing will run: packing is time lost
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated classes
        raise ArtifactError(
            f"onnxruntime {ort.__version__} cannot convert the model in {folder} ({first_line(error)}); "
            "export the folder again"
        ) from error


def write_required_operators(model: Path, folder: Path) -> None:
    """Write what a reduced build of onnxruntime must contain to run a file, with and without the types.

    Args:
        model: A file in ORT format.
        folder: Where ``OPERATORS`` and ``TYPED_OPERATORS`` are written.

    Raises:
        ArtifactError: onnxruntime's tool fails.
    """
    command = [sys.executable, "-c", _TOOL, str(model), str(folder / OPERATORS), str(folder / TYPED_OPERATORS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ArtifactError(f"onnxruntime {ort.__version__} cannot list the operators of {model} ({reason})")
    for name in (OPERATORS, TYPED_OPERATORS):
        path = folder / name
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(str(model), model.name), encoding="utf-8")  # no path of this machine
