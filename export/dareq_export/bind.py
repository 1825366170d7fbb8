"""Where every parameter of a captured graph lives in the external data file, and what fills it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dareq_edge.errors import ExportError
from dareq_edge.manifest import TensorEntry
from dareq_edge.spec import QuantSpec
from dareq_export.capture import Captured
from dareq_export.joins import Join
from dareq_export.layout import lower
from dareq_export.source import QuantizedSource

DATA_FILE = "model.onnx.data"
_LINE = 64  # bytes: what vector loads want; onnxruntime maps files from the page below any offset


@dataclass(frozen=True, slots=True)
class Slot:
    """One captured parameter's place: bytes [offset, offset + nbytes) of the data file.

    Attributes:
        value: As captured: name, dtype and shape.
        home: The graph's initializer that holds these bytes: ``value`` itself, or what it was joined into.
        offset: First byte.
        nbytes: Size.
        shares: The parameter whose bytes these are, if they are another's.
    """

    value: ir.Value
    home: ir.Value
    offset: int
    nbytes: int
    shares: str | None


def detach_parameters(captured: Captured) -> dict[str, ir.Value]:
    """Turn the parameters into graph inputs, so that no pass can read, fold or copy them.

    Returns:
        Name → value, in graph order.
    """
    graph = captured.model.graph
    values = {name: graph.initializers[name] for name in graph.initializers if name in captured.parameters}
    for name, value in values.items():
        del graph.initializers[name]
        value.const_value = None
        graph.inputs.append(value)
    return values


def attach_parameters(
    captured: Captured, values: Mapping[str, ir.Value], joins: Sequence[Join] = ()
) -> dict[str, Slot]:
    """Make the parameters initializers again, as references into the data file; unused ones are dropped.

    Args:
        captured: The graph.
        values: From ``detach_parameters``.
        joins: Parameters that passes joined; their parts lie side by side.

    Returns:
        Captured name → slot, in file order.
    """
    graph = captured.model.graph
    for value in (*values.values(), *(j.value for j in joins)):
        graph.inputs.remove(value)
    homes: list[tuple[ir.Value, tuple[str, ...]]] = [
        (value, (name,)) for name, value in values.items() if value.uses()
    ]
    homes += [(j.value, j.parts) for j in joins if j.value.uses()]
    order = {name: position for position, name in enumerate(values)}
    homes.sort(key=lambda h: (_shared_with(h[1][0], captured) is not None, order[h[1][0]]))  # owners before sharers
    slots: dict[str, Slot] = {}
    end = 0
    for home, parts in homes:
        sizes = [_stored_bytes(values[name]) for name in parts]
        owner = _shared_with(parts[0], captured)
        if owner in slots and [slots[owner].nbytes] == sizes:
            slots[parts[0]] = Slot(home, home, slots[owner].offset, sizes[0], owner)
        else:
            end = -(-end // _LINE) * _LINE
            for name, size in zip(parts, sizes, strict=True):
                slots[name] = Slot(values[name], home, end, size, None)
                end += size
        dtype, shape = _stored_type(home)
        offset = slots[parts[0]].offset
        home.const_value = ir.ExternalTensor(DATA_FILE, offset, sum(sizes), dtype, shape=shape, name=str(home.name))
        graph.initializers[str(home.name)] = home
    return slots


def _shared_with(name: str, captured: Captured) -> str | None:
    """The embedding's parameter whose bytes a tied head's parameter uses."""
    module, _, kind = name.rpartition(".")
    table = captured.tied.get(module)
    return f"{table}.{kind}" if table and kind in ("qweight", "scales", "weight") else None


def _stored_type(value: ir.Value) -> tuple[ir.DataType, ir.Shape]:
    """The dtype and static shape of a parameter, which must be one this file can hold."""
    dtype, shape = value.dtype, value.shape
    if dtype not in (ir.DataType.FLOAT, ir.DataType.UINT8) or shape is None or not shape.is_static():
        raise ExportError(f"parameter {value.name} was captured as {dtype} {shape}; expected float32 or uint8")
    return dtype, shape


def _stored_bytes(value: ir.Value) -> int:
    dtype, shape = _stored_type(value)
    return prod(shape.numpy()) * int(dtype.itemsize)


def fill(
    slots: Mapping[str, Slot], captured: Captured, source: QuantizedSource
) -> Iterator[tuple[Slot, NDArray[np.float32] | NDArray[np.uint8]]]:
    """Yield (slot, array) for every slot that owns bytes, reading one module at a time.

    Raises:
        CheckpointError: A tensor is missing from the checkpoint or has the wrong shape.
    """
    for name, slot in slots.items():
        if slot.shares is not None:
            continue
        module, _, kind = name.rpartition(".")
        if kind == "scales" and module in captured.layouts:
            continue  # written with its qweight
        if kind == "qweight" and module in captured.layouts:
            layout = captured.layouts[module]
            codes, scales = lower(source.quantized(captured.tied.get(module, module), layout.k), layout)
            yield slot, codes
            yield slots[f"{module}.scales"], scales
        else:
            shape = _stored_type(slot.value)[1]
            stored = name if name in source.shards else _tied_name(name, captured)
            yield slot, source.floats(stored, shape.numpy())


def _tied_name(name: str, captured: Captured) -> str:
    """A tied float table may be captured under the head's name; the checkpoint has it under the embedding's."""
    return _shared_with(name, captured) or name


def write_data(folder: Path, pieces: Iterator[tuple[Slot, NDArray[np.float32] | NDArray[np.uint8]]]) -> Iterator[int]:
    """Write the data file piece by piece; yields the bytes written so far."""
    with (folder / DATA_FILE).open("wb") as file:
        done = 0
        for slot, array in pieces:
            if array.nbytes != slot.nbytes:
                raise ExportError(f"{slot.value.name} has {array.nbytes} bytes; the graph needs {slot.nbytes}")
            file.seek(slot.offset)
            file.write(array.data)
            done += slot.nbytes
            yield done


def entries(slots: Mapping[str, Slot], captured: Captured, plan: Mapping[str, QuantSpec]) -> dict[str, TensorEntry]:
    """The manifest's tensor table: one entry per slot."""
    table: dict[str, TensorEntry] = {}
    for name, slot in slots.items():
        module, _, kind = name.rpartition(".")
        spec, layout = plan.get(captured.tied.get(module, module)), captured.layouts.get(module)
        quantized = kind == "qweight" and layout is not None and spec is not None
        table[name] = TensorEntry(
            shape=(layout.n, layout.k) if quantized and layout else _stored_type(slot.value)[1].numpy(),
            bits=spec.bits if quantized and spec else 32,
            scheme=spec.scheme if quantized and spec else "float",
            method=spec.method if quantized and spec else None,
            file=DATA_FILE,
            offset=slot.offset,
            bytes=slot.nbytes,
            shares=slot.shares,
        )
    return table
