"""What the matrices of a quantized checkpoint come to in a container."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.container import coded_bytes
from dareq_edge.manifest import Manifest
from dareq_edge.progress import Progress
from dareq_edge.quantized import read_plan, read_quantized


def coded_size(folder: Path, linears: Collection[str], progress: Progress) -> tuple[int, float]:
    """Code every matrix, one at a time, without writing anything.

    Args:
        folder: A quantized checkpoint.
        linears: Modules that count for the second result.
        progress: Called per matrix.

    Returns:
        Bytes of all tensors with the matrices coded, and coded bits per weight of ``linears``.
    """
    manifest, checkpoint = Manifest.read(folder), Checkpoint.open(str(folder))
    total = sum(t.bytes for t in manifest.tensors.values() if t.shares is None)
    bits, weights = 0, 0
    plan = read_plan(checkpoint)
    for done, (module, spec) in enumerate(plan.items()):
        progress("coding", done, len(plan))
        entry = manifest.tensors[f"{module}.weight"]
        value = read_quantized(checkpoint, module, spec, entry.shape[1])
        size = coded_bytes(value.codes, value.scales, spec.bits)
        total += size - entry.bytes
        if module in linears:
            bits, weights = bits + 8 * size, weights + value.codes.size
    progress("coding", len(plan), len(plan))
    return total, bits / weights
