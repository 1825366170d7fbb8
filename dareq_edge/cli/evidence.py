"""What a report of a model shows beside its scores: sizes, statistics of weights, entropies; gathered at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dareq_edge.errors import DareqError
from dareq_edge.manifest import Manifest
from dareq_edge.reporting.records import BlockEntropies, SizeRow

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.manifest import TensorEntry
    from dareq_edge.progress import Progress
    from dareq_edge.reporting.statistics import WeightStats

T = TypeVar("T")

Absent = dict[str, str]
"""Why a part is missing, by what it is."""


def attempt(what: str, absent: Absent, make: Callable[[], T]) -> T | None:
    """A part of the page, or a note why there is none: a page must not fail what it reports on."""
    try:
        return make()
    except DareqError as error:
        absent[what] = str(error)
        return None


def weights_of(
    folder: Path, original: Checkpoint | None, progress: Progress, *, trust_remote_code: bool
) -> WeightStats:
    """Statistics of a quantized checkpoint's matrices."""
    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.reporting.measure import weight_stats

    quantized = Checkpoint.open(str(folder), trust_remote_code=trust_remote_code)
    return weight_stats(quantized, original, progress, trust_remote_code=trust_remote_code)


def entropies_of(original: Checkpoint, progress: Progress, *, trust_remote_code: bool) -> BlockEntropies:
    """Block entropies of a float model."""
    from dareq_edge.allocation.entropy import EPSILON, block_entropies
    from dareq_edge.allocation.facts import facts_of_config

    facts = facts_of_config(original.config, trust_remote_code=trust_remote_code)
    values = block_entropies(original, facts, progress=progress, trust_remote_code=trust_remote_code)
    return BlockEntropies(values, EPSILON)


def fp32_row(parameters: int, note: str) -> SizeRow:
    """What everything is compared with."""
    return SizeRow("fp32", 4 * parameters, "base", note)


def stored_parameters(tensors: Iterable[TensorEntry]) -> int:
    """Numbers in a folder's tensors, shared ones once."""
    return sum(math.prod(t.shape) for t in tensors if t.shares is None)


def folder_rows(manifest: Manifest) -> list[SizeRow]:
    """Sizes of an exported folder, packed or not, from its dareq.json."""
    whole = sum(entry.bytes for entry in manifest.files.values())
    rows = [SizeRow("ONNX folder", whole, "disk", "all files listed in dareq.json")]
    if manifest.packed:
        own = {entry.container for entry in manifest.packed.values()}
        unpacked = sum(e.bytes for e in manifest.packed.values())
        unpacked += sum(e.bytes for name, e in manifest.files.items() if name not in own)
        rows = [
            SizeRow("ONNX folder, unpacked", unpacked, "disk", "all files as they are once unpacked"),
            SizeRow("packed folder: download", whole, "download", "all files listed in dareq.json"),
        ]
    return rows


def memory_row(config: PretrainedConfig, file_bytes: int, cache_bits: int) -> SizeRow:
    """What running it takes at most, by the rule that --max-size uses."""
    from dareq_edge.allocation.memory import PER_FILE_BYTE, PROCESS_BYTES, TOKENS, cache_bytes

    text = config.get_text_config(decoder=True)
    tokens = min(TOKENS, getattr(text, "max_position_embeddings", TOKENS))
    cache = cache_bytes(config, tokens, cache_bits=cache_bits)
    note = (
        f"a bound, not measured here: {PROCESS_BYTES / 1e6:.0f} MB for the process, {PER_FILE_BYTE:g} times graph "
        f"and data, keys and values of {tokens:,} tokens"
    )
    return SizeRow(
        "memory to run it, at most", round(PROCESS_BYTES + PER_FILE_BYTE * file_bytes + cache), "memory", note
    )


def peak_row() -> SizeRow | None:
    """Most memory that this process had resident."""
    from dareq_runtime.bench.memory import peak_resident

    peak = peak_resident()
    note = "measured: the most this process had resident, interpreter and text included"
    return None if peak is None else SizeRow("memory while scoring", peak, "memory", note)
