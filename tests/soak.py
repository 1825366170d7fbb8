"""A program that does one thing over and over and prints its resident memory after each time, as JSON.

    python soak.py FOLDER generations 10000
    python soak.py FOLDER sessions 1000

It runs in a process of its own, because memory that other tests freed would hide growth.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from dareq_runtime import load
from dareq_runtime.bench.memory import resident
from dareq_runtime.decoder import Cache
from dareq_runtime.sampling import Sampling

PROMPTS = ("the weather", "x", "in the south, over the river and through another thing", "ünï")


def generations(folder: str) -> Callable[[int], None]:
    """Prompts of changing lengths, by every way of generating in turn, on one session."""
    model = load(folder, threads=1)

    def once(i: int) -> None:
        prompt = PROMPTS[i % len(PROMPTS)]
        match i % 5:
            case 0:
                model.generate(prompt, max_new_tokens=8, stop_ids=[], on_token=lambda *_: None)
            case 1:
                model.generate(prompt, max_new_tokens=5 + i % 7, stop_ids=[], temperature=1.0, top_k=20, seed=i)
            case 2:
                model.generate(prompt, max_new_tokens=8, stop_ids=[], lookup=True)
            case 3:
                model.generate_batch([prompt, "and"], max_new_tokens=6, stop_ids=[], sampling=Sampling(1.0, seed=i))
            case _:
                model.generate_batch([prompt, "and"], max_new_tokens=6, stop_ids=[], together=True)

    return once


def sessions(folder: str) -> Callable[[int], None]:
    """A session opened, used once, and closed."""

    def once(_: int) -> None:
        load(folder, threads=1).generate("the", max_new_tokens=2, stop_ids=[])

    return once


def kept_generations(folder: str) -> Callable[[int], None]:
    """What growth looks like: every generation's cache is kept, and written to as far as a short prompt does."""
    model = load(folder, threads=1)
    kept: list[Cache] = []

    def once(_: int) -> None:
        cache = Cache(model.graph, 1, 64)
        for array in cache.arrays:
            array[:, :, :4] = 1
        kept.append(cache)

    return once


def kept_sessions(folder: str) -> Callable[[int], None]:
    """What growth looks like: no session is ever closed."""
    kept = []
    return lambda _: kept.append(load(folder, threads=1))


KINDS = {f.__name__: f for f in (generations, sessions, kept_generations, kept_sessions)}


def growth(samples: Sequence[int] | NDArray[np.int64]) -> float:
    """Bytes by which the median of the last third of the samples lies above that of the middle third.

    The first third is left out: allocators and caches fill up in it.
    """
    third = len(samples) // 3
    return float(np.median(samples[2 * third :]) - np.median(samples[third : 2 * third]))


def soak(once: Callable[[int], None], times: int) -> NDArray[np.int64]:
    """Resident bytes after each of so many times, int64 [times]; the room for them is taken before the first."""
    samples = np.full(times, -1)
    for i in range(times):
        once(i)
        samples[i] = resident() or 0
    return samples


if __name__ == "__main__":
    folder, kind, times = sys.argv[1:]
    print(json.dumps(soak(KINDS[kind](folder), int(times)).tolist()))
