"""Where an ONNX graph wants its external weights from, read without the onnx package.

Field numbers are those of onnx.proto (IR version 3 and later).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from dareq_edge.errors import ArtifactError
from dareq_runtime.protobuf import fields, parts, text, varints

_DTYPES = {1: "<f4", 2: "u1", 3: "i1", 6: "<i4", 7: "<i8", 10: "<f2", 11: "<f8"}


@dataclass(frozen=True, slots=True)
class ExternalTensor:
    """An initializer whose bytes are in another file.

    Attributes:
        name: In the graph.
        shape: Its dimensions.
        dtype: ``None`` where numpy has no such type, e.g. int4.
        location: The file, relative to the graph's folder.
        offset: First byte there.
        nbytes: Its bytes.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic] | None
    location: str
    offset: int
    nbytes: int


def external_tensors(model: bytes) -> list[ExternalTensor]:
    """Every initializer of a graph that is not in the file itself.

    Args:
        model: A serialized ONNX model.

    Raises:
        ArtifactError: It is none, or a tensor's length does not fit its shape.
    """
    try:
        graphs = parts(memoryview(model), 7)
        return [tensor for graph in graphs for part in parts(graph, 5) for tensor in _external(part)]
    except (ValueError, IndexError, KeyError) as error:
        raise ArtifactError(f"the graph cannot be read ({error!r}); copy or export the folder again") from error


def _external(part: memoryview) -> Iterator[ExternalTensor]:
    """A TensorProto as what it refers to, if it does."""
    dims: list[int] = []
    kind, name = 0, ""
    where: dict[str, str] = {}
    for number, value in fields(part):
        if number == 1:
            dims += [value] if isinstance(value, int) else varints(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and not isinstance(value, int):
            name = text(value)
        elif number == 13 and not isinstance(value, int):
            key, *content = (text(x) for n in (1, 2) for x in parts(value, n))
            where[key] = "".join(content)
    if not where:
        return
    dtype = np.dtype(_DTYPES[kind]) if kind in _DTYPES else None
    offset, nbytes = int(where.get("offset", 0)), int(where["length"])
    if dtype is not None and prod(dims) * dtype.itemsize != nbytes:
        raise ValueError(f"{name} has {nbytes} bytes for {dims} of {dtype}")
    yield ExternalTensor(name, tuple(dims), dtype, where["location"], offset, nbytes)
