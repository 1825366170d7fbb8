"""What packing did, by kind of content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dareq_edge.container.layout import KINDS
from dareq_edge.folders import inside
from dareq_edge.manifest import Manifest
from dareq_edge.packed.unpacking import open_container

_PER_BYTE = {"codes8": 1, "codes4": 2}
_WORDS = {"codes8": "8-bit codes", "codes4": "4-bit codes", "floats": "scales, float tensors", "bytes": "the rest"}


@dataclass(frozen=True, slots=True)
class KindSize:
    """All frames of one kind.

    Attributes:
        kind: In words.
        before: Bytes unpacked.
        after: Bytes in containers, without tables.
        weights: Codes; 0 for what are no codes.
    """

    kind: str
    before: int
    after: int
    weights: int

    @property
    def bits_per_weight(self) -> float | None:
        """Coded bits per code; ``None`` for what are no codes."""
        return 8 * self.after / self.weights if self.weights else None


def kind_sizes(manifest: Manifest, folder: Path) -> list[KindSize]:
    """Sizes by kind, from the headers of the containers; the last row is their tables.

    Raises:
        ArtifactError: A container is damaged.
    """
    before, after = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    tables = 0
    for name in manifest.packed:
        table = open_container(manifest, folder, name).header.table
        tables += inside(folder, manifest.packed[name].container).stat().st_size - int(table["coded"].sum(dtype="u8"))
        for index, kind in enumerate(KINDS):
            chosen = table[table["kind"] == index]
            before[kind] += int(chosen["raw"].sum(dtype="u8"))
            after[kind] += int(chosen["coded"].sum(dtype="u8"))
    rows = [KindSize(_WORDS[k], before[k], after[k], _PER_BYTE.get(k, 0) * before[k]) for k in _WORDS if before[k]]
    return [*rows, KindSize("tables of frames", 0, tables, 0)]
