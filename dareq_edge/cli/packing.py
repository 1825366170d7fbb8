"""What pack and unpack show: bytes before and after, and coded bits by kind of content."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dareq_edge.manifest import Manifest
    from dareq_edge.packed import KindSize


def folder_bytes(folder: Path) -> int:
    """Bytes of every file in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def kind_table(kinds: Sequence[KindSize]) -> Table:
    """One row per kind of content."""
    table = Table(box=SIMPLE, pad_edge=False, collapse_padding=True)
    table.add_column("in containers")
    for name in ("bytes", "packed", "share", "bits per weight"):
        table.add_column(name, justify="right")
    for k in kinds:
        share = f"{100 * k.after / k.before:.1f} %" if k.before else ""
        bits = "" if k.bits_per_weight is None else f"{k.bits_per_weight:.3f}"
        table.add_row(k.kind, f"{k.before:,}" if k.before else "", f"{k.after:,}", share, bits)
    return table


def packed_record(manifest: Manifest, kinds: Sequence[KindSize]) -> dict[str, object]:
    """The same as a record."""
    return {
        "files": {name: asdict(entry) for name, entry in manifest.packed.items()},
        "kinds": [asdict(k) | {"bits_per_weight": k.bits_per_weight} for k in kinds],
    }
