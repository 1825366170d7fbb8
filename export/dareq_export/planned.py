"""How large an export will be, before anything is quantized: the graph is made, its weights are not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dareq_edge.spec import QuantSpec
from dareq_export.capture import read_config
from dareq_export.export import build, graph_bytes
from dareq_export.profiles import ProfileName, find_profile


@dataclass(frozen=True, slots=True)
class PlannedSize:
    """Sizes in bytes.

    Attributes:
        graph: The ONNX file.
        data: Its data files together.
    """

    graph: int
    data: int

    @property
    def total(self) -> int:
        """Both."""
        return self.graph + self.data


def planned_size(
    source: str | Path, plan: Mapping[str, QuantSpec], *, profile: ProfileName = "native"
) -> PlannedSize:
    """The exact size of ``export_onnx``'s ONNX file and data, for a cache in float32; takes seconds.

    Args:
        source: A model folder; only config.json is read.
        plan: Spec per module name, as ``quantize_checkpoint`` takes it.
        profile: As for ``export_onnx``.

    Raises:
        CheckpointError: There is no config.json that transformers knows.
        UnsupportedArchitectureError: The model cannot be captured.
        ExportError: The plan does not fit the model.
        SpecError: There is no such profile.
    """
    form = find_profile(profile)
    captured, slots = build(read_config(Path(source)), plan, form)
    ends: dict[str, int] = {}
    for slot in slots.values():
        ends[slot.file] = max(ends.get(slot.file, 0), slot.offset + slot.nbytes)
    return PlannedSize(len(graph_bytes(captured)), sum(ends.values()))
