"""How large keys and values become, measured without any data: what an 8-bit cache takes its scales from.

The exported model itself is run on two kinds of tokens: drawn uniformly from the vocabulary (every token's keys and
values are met), and written by the model (what it will really see). The largest magnitude of every channel, with a
margin for texts that go further, is the channel's range; what exceeds it later is clipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import ArtifactError, SpecError
from dareq_edge.progress import Progress, silent
from dareq_runtime.decoder import Cache, extend
from dareq_runtime.loading import load
from dareq_runtime.model import OnnxModel


@dataclass(frozen=True, slots=True)
class RangeProbe:
    """What the model is run on.

    Attributes:
        windows: Sequences of each of the two kinds.
        length: Tokens of each, at most; the model's context may be shorter.
        margin: The range is this many times the largest magnitude that was met.
        seed: Of the drawn tokens and of the writing.

    Raises:
        SpecError: A value is out of range.
    """

    windows: int = 4
    length: int = 256
    margin: float = 1.25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.windows < 1 or self.length < 2 or not 1 <= self.margin < float("inf"):
            raise SpecError(f"{self} cannot measure anything; use windows >= 1, length >= 2 and margin >= 1")


def cache_ranges(
    folder: str | Path, probe: RangeProbe = RangeProbe(), *, progress: Progress = silent
) -> dict[str, NDArray[np.float32]]:
    """Measure the range of every channel of every cache.

    Args:
        folder: An exported folder with a float cache.
        probe: What the model is run on.
        progress: Called per window.

    Returns:
        float32 [kv_heads, head_dim] by name of the cache input, e.g. "past_key_values.0.key".

    Raises:
        ArtifactError: The folder's cache is 8 bits wide already.
    """
    model = load(folder, verify=False)
    graph = model.graph
    if graph.cache_dtype is np.int8:
        raise ArtifactError(f"the cache of {folder} is 8 bits wide already; export it again with a float cache")
    largest = [np.zeros(graph.cache_shape, np.float32) for _ in graph.caches]
    for done, ids in enumerate(_windows(model, probe)):
        progress("measuring the cache", done, 2 * probe.windows)
        cache = Cache(graph, 1, len(ids))
        extend(cache.lane(0, 1), ids, done=0, last_only=True)
        for found, array in zip(largest, cache.arrays, strict=True):
            np.maximum(found, np.abs(array[0]).max(axis=1), out=found)
    progress("measuring the cache", 2 * probe.windows, 2 * probe.windows)
    return {past: probe.margin * found for (past, _), found in zip(graph.caches, largest, strict=True)}


def _windows(model: OnnxModel, probe: RangeProbe) -> Iterator[NDArray[np.int64]]:
    """Token ids of every window, int64 [T]: drawn and written in turns."""
    random = np.random.default_rng(probe.seed)
    length = min(probe.length, model.context_length)
    for index in range(probe.windows):
        drawn = random.integers(0, model.vocab_size, length)
        drawn[0] = min(model.folder.stop_ids, default=int(drawn[0]))  # OPT and GPT-2 begin a text with it
        yield drawn
        start = drawn[:1]
        made = model.generate(start, max_new_tokens=length - 1, temperature=1.0, seed=probe.seed + index, stop_ids=[])
        yield np.concatenate([start, np.array(made.ids, np.int64)])
