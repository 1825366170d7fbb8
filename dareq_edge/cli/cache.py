"""--cache-bits: the runtime measures what the export needs to know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dareq_edge.cli.options import CacheBits
    from dareq_edge.progress import Progress
    from dareq_export.passes.int8_cache import Ranges


def ranges_for(bits: CacheBits, progress: Progress) -> Callable[[Path], Ranges] | None:
    """What ``export_onnx`` takes as ``cache_ranges``; ``None`` for a float cache."""
    if bits == "32":
        return None
    from dareq_runtime import cache_ranges

    return lambda folder: cache_ranges(folder, progress=progress)
