"""Where every parameter of a captured graph lives in the external data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from dareq_edge.errors import ExportError
from dareq_edge.kernel_layout import LINE
from dareq_export.capture import Captured
from dareq_export.joins import Join
from dareq_export.profiles import NATIVE, Profile

_STORABLE = (ir.DataType.FLOAT, ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT4)


@dataclass(frozen=True, slots=True)
class Slot:
    """One parameter's place: bytes [offset, offset + nbytes) of a data file.

    Attributes:
        value: Name, dtype and shape.
        home: The graph's initializer that holds these bytes: ``value`` itself, or what it was joined into.
        file: The data file, as the graph calls it.
        offset: First byte. Of columns that lie beside another parameter's, the first byte of all of them.
        nbytes: Size.
        shares: Whose bytes these are, if they are another slot's.
        parts: The parameters whose columns lie side by side in here; each has a slot of its own that shares these.
    """

    value: ir.Value
    home: ir.Value
    file: str
    offset: int
    nbytes: int
    shares: str | None = None
    parts: tuple[str, ...] = ()


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
    captured: Captured, values: Mapping[str, ir.Value], joins: Sequence[Join] = (), profile: Profile = NATIVE
) -> dict[str, Slot]:
    """Make the parameters initializers again, as references into data files; unused ones are dropped.

    Args:
        captured: The graph.
        values: From ``detach_parameters``.
        joins: Parameters that passes joined.
        profile: Names of the data files, and how large one may be.

    Returns:
        Captured name (or that of a join of columns) → slot, in file order.

    Raises:
        ExportError: A parameter has a type that no file here holds, or is larger than a file may be.
    """
    graph = captured.model.graph
    for value in (*values.values(), *(j.value for j in joins)):
        graph.inputs.remove(value)
    homes: list[tuple[ir.Value, tuple[str, ...]]] = [
        (value, (name,)) for name, value in values.items() if value.uses()
    ]
    homes += [(j.value, j.parts) for j in joins if j.value.uses()]
    order = {name: position for position, name in enumerate(values)}
    homes.sort(key=lambda h: (shared_with(h[1][0], captured) is not None, order[h[1][0]]))  # owners before sharers
    slots: dict[str, Slot] = {}
    room = _Room(profile)
    for home, parts in homes:
        owner = shared_with(parts[0], captured)
        size = stored_bytes(home)
        if owner in slots and slots[owner].nbytes == size:
            held = slots[owner]
            slots[parts[0]] = Slot(home, home, held.file, held.offset, size, owner)
        else:
            slots |= _placed(home, {name: values[name] for name in parts}, *room.take(str(home.name), size))
        first = slots[parts[0]]
        dtype, shape = stored_type(home)
        home.const_value = ir.ExternalTensor(first.file, first.offset, size, dtype, shape=shape, name=str(home.name))
        graph.initializers[str(home.name)] = home
    return slots


class _Room:
    """Space in the data files, handed out in order."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._index = self._end = 0

    def take(self, name: str, size: int) -> tuple[str, int]:
        """(file, offset) of the next ``size`` bytes."""
        limit = self._profile.largest
        if limit is not None and size > limit:
            raise ExportError(
                f"{name} has {size:,} bytes, more than the {limit:,} that a file of the profile {self._profile.name} "
                "may have; quantize it with fewer bits or export another profile"
            )
        start = -(-self._end // LINE) * LINE
        if limit is not None and start + size > limit:
            self._index, start = self._index + 1, 0
        self._end = start + size
        return self._profile.data_file(self._index), start


def _placed(home: ir.Value, parts: Mapping[str, ir.Value], file: str, offset: int) -> dict[str, Slot]:
    """The slots of a home's parts: one after the other, or side by side in one slot more."""
    if _beside(home, parts):
        name = str(home.name)
        whole = Slot(home, home, file, offset, stored_bytes(home), parts=tuple(parts))
        shares = {part: Slot(value, home, file, offset, stored_bytes(value), name) for part, value in parts.items()}
        return {name: whole, **shares}
    found: dict[str, Slot] = {}
    for part, value in parts.items():
        found[part] = Slot(value, home, file, offset, stored_bytes(value))
        offset += found[part].nbytes
    return found


def _beside(home: ir.Value, parts: Mapping[str, ir.Value]) -> bool:
    """Whether a joined matrix has as many rows as each of its parts: then the columns were put together."""
    shapes = [stored_type(value)[1].numpy() for value in (home, *parts.values())]
    return len(parts) > 1 and len(shapes[0]) == 2 and all(shape[0] == shapes[0][0] for shape in shapes)


def shared_with(name: str, captured: Captured) -> str | None:
    """The embedding's parameter whose bytes a tied head's parameter uses."""
    module, _, kind = name.rpartition(".")
    table = captured.tied.get(module)
    return f"{table}.{kind}" if table and kind in ("qweight", "scales", "weight") else None


def stored_type(value: ir.Value) -> tuple[ir.DataType, ir.Shape]:
    """The dtype and static shape of a parameter, which must be one a data file can hold."""
    dtype, shape = value.dtype, value.shape
    if dtype not in _STORABLE or shape is None or not shape.is_static():
        raise ExportError(f"parameter {value.name} was captured as {dtype} {shape}; expected float32 or integers")
    return dtype, shape


def stored_bytes(value: ir.Value) -> int:
    """Bytes of a parameter in the file."""
    dtype, shape = stored_type(value)
    return -(-prod(shape.numpy()) * dtype.bitwidth // 8)
