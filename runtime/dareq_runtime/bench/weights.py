"""What one token costs in memory traffic: bytes of weights that a graph reads whole, from the graph itself.

A table that only lookups read (Gather, GatherBlockQuantized, the angles of rotary embeddings) costs a row per token,
not its size; any other initializer is read once per pass. The onnx package is no part of the runtime, so the few
fields that matter are read from the protobuf here, through a memory map: weights inside the file are skipped, not
read. Field numbers are those of onnx.proto (IR version 3 and later).
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from dareq_edge.errors import ArtifactError
from dareq_edge.folders import inside
from dareq_edge.packed import SUFFIX
from dareq_runtime.protobuf import fields, parts, text, varints

_LOOKUPS = {"Gather", "GatherBlockQuantized", "RotaryEmbedding", "GroupQueryAttention", "Shape"}
_VIEWS = {"Transpose", "Reshape", "Identity", "Cast", "Squeeze", "Unsqueeze", "Flatten"}
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16}
_BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4}  # float8 kinds, uint4, int4, float4


@dataclass(slots=True)
class _Graph:
    """What is read of a graph: bytes by initializer, (kind, inputs, outputs) by node, files with weights."""

    initializers: dict[str, int] = field(default_factory=dict)
    nodes: list[tuple[str, list[str], list[str]]] = field(default_factory=list)
    files: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class GraphWeights:
    """The weights of one graph.

    Attributes:
        read_bytes: Read whole on every pass.
        files: The graph's file and every file of weights it names, or the container that holds one.
    """

    read_bytes: int
    files: tuple[Path, ...]

    @property
    def file_bytes(self) -> int:
        """Size of these files."""
        return sum(file.stat().st_size for file in self.files)


def graph_weights(path: Path) -> GraphWeights:
    """Read an ONNX file's initializers and who uses them.

    Raises:
        ArtifactError: It is no ONNX file, or a file of weights is missing.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        graph = _read(memoryview(data))
    except (ValueError, IndexError) as error:
        raise ArtifactError(f"{path} is not an ONNX model; copy or export the folder again") from error
    files = [path, *(_stored(inside(path.parent, name)) for name in sorted(graph.files))]
    for file_ in files:
        if not file_.is_file():
            raise ArtifactError(f"{file_.name} is missing from {path.parent}; copy or export the folder again")
    read = sum(graph.initializers[name] for name in _used_whole(graph))
    return GraphWeights(read, tuple(files))


def _stored(file: Path) -> Path:
    """A file, or its container in a packed folder."""
    container = file.with_name(file.name + SUFFIX)
    return container if container.is_file() and not file.is_file() else file


def _used_whole(graph: _Graph) -> set[str]:
    """Initializers with a reader that is not a lookup; a view of one counts as that one."""
    origin = {name: name for name in graph.initializers}
    used: set[str] = set()
    for kind, inputs, outputs in graph.nodes:
        if kind in _VIEWS and inputs and inputs[0] in origin:
            origin[outputs[0]] = origin[inputs[0]]
        elif kind not in _LOOKUPS:
            used.update(origin[name] for name in inputs if name in origin)
    return used


def _read(model: memoryview) -> _Graph:
    found = _Graph()
    graphs = parts(model, 7)
    if len(graphs) != 1:
        raise ValueError("no graph")
    for number, part in fields(graphs[0]):
        if number == 1 and not isinstance(part, int):
            inputs, outputs, kind = ([text(x) for x in parts(part, n)] for n in (1, 2, 4))
            found.nodes.append(("".join(kind), inputs, outputs))
        elif number == 5 and not isinstance(part, int):
            name, size = _tensor(part)
            found.initializers[name] = size
            entries = [[text(x) for n in (1, 2) for x in parts(entry, n)] for entry in parts(part, 13)]
            found.files.update(entry[1] for entry in entries if entry[0] == "location")
    return found


def _tensor(part: memoryview) -> tuple[str, int]:
    """Name and bytes of a TensorProto."""
    dims, bits, name = [], 8, ""
    for number, value in fields(part):
        if number == 1:
            dims += [value] if isinstance(value, int) else varints(value)
        elif number == 2 and isinstance(value, int):
            bits = _BITS.get(value, 8)
        elif number == 8 and not isinstance(value, int):
            name = text(value)
    return name, (prod(dims) * bits + 7) // 8
