"""What fills the slots of a graph's parameters, and how the manifest describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dareq_edge.errors import ExportError
from dareq_edge.kernel_layout import BlockLayout
from dareq_edge.manifest import TensorEntry
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec
from dareq_export.capture import Captured
from dareq_export.columns import ColumnLayout, beside, column_scales, pack_columns
from dareq_export.layout import lower
from dareq_export.profiles import Profile
from dareq_export.slots import Slot, shared_with, stored_type
from dareq_export.source import QuantizedSource

Array = NDArray[np.float32] | NDArray[np.uint8]


def fill(slots: Mapping[str, Slot], captured: Captured, source: QuantizedSource) -> Iterator[tuple[Slot, Array]]:
    """Yield (slot, array) for every slot that owns bytes, reading one module at a time.

    Raises:
        CheckpointError: A tensor is missing from the checkpoint or has the wrong shape.
    """
    for name, slot in slots.items():
        if slot.shares is not None:
            continue
        parts = slot.parts or (name,)
        module, _, kind = parts[0].rpartition(".")
        layout = captured.layouts.get(module)
        if kind not in ("qweight", "scales") or layout is None:
            shape = stored_type(slot.value)[1]
            stored = name if name in source.shards else _tied_name(name, captured)
            yield slot, source.floats(stored, shape.numpy())
        elif isinstance(layout, ColumnLayout):
            yield slot, _columns(slot, parts, captured, source)
        elif kind == "qweight":  # scales are written with their codes
            codes, scales = lower(_tensor(module, layout, captured, source), layout)
            yield slot, codes
            yield slots[f"{module}.scales"], scales


def _columns(slot: Slot, parts: tuple[str, ...], captured: Captured, source: QuantizedSource) -> Array:
    """Codes or scales of one matrix, or of several side by side."""
    modules = [part.rpartition(".")[0] for part in parts]
    layouts = [layout for m in modules if isinstance(layout := captured.layouts[m], ColumnLayout)]
    tensors = [_tensor(m, layout, captured, source) for m, layout in zip(modules, layouts, strict=True)]
    if parts[0].endswith(".scales"):
        return column_scales(tensors, beside(layouts))
    return pack_columns(tensors, beside(layouts), lookup=slot.value.dtype == ir.DataType.UINT8)


def _tensor(
    module: str, layout: BlockLayout | ColumnLayout, captured: Captured, source: QuantizedSource
) -> QuantizedTensor:
    return source.quantized(captured.tied.get(module, module), layout.k)


def _tied_name(name: str, captured: Captured) -> str:
    """A tied float table may be captured under the head's name; the checkpoint has it under the embedding's."""
    return shared_with(name, captured) or name


def write_data(folder: Path, pieces: Iterator[tuple[Slot, Array]]) -> Iterator[int]:
    """Write the data files piece by piece; yields the bytes written so far."""
    with ExitStack() as opened:
        files: dict[str, IO[Any]] = {}
        done = 0
        for slot, array in pieces:
            if array.nbytes != slot.nbytes:
                raise ExportError(f"{slot.value.name} has {array.nbytes} bytes; the graph needs {slot.nbytes}")
            if slot.file not in files:
                files[slot.file] = opened.enter_context((folder / slot.file).open("wb"))
            files[slot.file].seek(slot.offset)
            files[slot.file].write(array.data)
            done += slot.nbytes
            yield done


def entries(
    slots: Mapping[str, Slot], captured: Captured, plan: Mapping[str, QuantSpec], profile: Profile
) -> dict[str, TensorEntry]:
    """The manifest's tensor table: one entry per slot."""
    return {name: _entry(name, slot, captured, plan, profile) for name, slot in slots.items()}


def _entry(name: str, slot: Slot, captured: Captured, plan: Mapping[str, QuantSpec], profile: Profile) -> TensorEntry:
    module, _, kind = name.rpartition(".")
    dtype, shape = stored_type(slot.value)
    spec, layout = plan.get(captured.tied.get(module, module)), captured.layouts.get(module)
    entry = TensorEntry(
        shape=shape.numpy(),
        bits=32,
        scheme="float",
        method=None,
        file=profile.from_root(slot.file),
        offset=slot.offset,
        bytes=slot.nbytes,
        shares=slot.shares,
    )
    if slot.parts and kind == "qweight":  # what each part is, its own entry says
        return replace(entry, shape=shape.numpy()[::-1], bits=dtype.bitwidth, scheme="its parts side by side")
    if kind == "qweight" and layout is not None and spec is not None:
        return replace(entry, shape=(layout.n, layout.k), bits=spec.bits, scheme=spec.scheme, method=spec.method)
    return entry
