"""Packed folders: a folder whose large files are in entropy containers, and back; layer L1.

    pack_folder(Path("opt-125m-int4"), Path("opt-125m-packed"))
    unpack_folder(Path("opt-125m-packed"), Path("opt-125m-again"))     every file as it was, byte for byte

``dareq_edge.manifest`` documents what dareq.json says of such a folder, ``dareq_edge.container`` the containers.
"""

from __future__ import annotations

from dareq_edge.packed.packing import SUFFIX, pack_folder
from dareq_edge.packed.summary import KindSize, kind_sizes
from dareq_edge.packed.unpacking import open_container, unpack_folder

__all__ = ["SUFFIX", "KindSize", "kind_sizes", "open_container", "pack_folder", "unpack_folder"]
