"""The measurement of one contestant in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
from numpy.typing import NDArray

from dareq_runtime.bench.contestant import Contestant
from dareq_runtime.bench.memory import peak_resident, resident
from dareq_runtime.bench.sample import WARM_STEPS, Lengths, Sample
from dareq_runtime.environment import describe_environment

REPEATS = 3
"""Prompts of each length; their median counts."""


def measure(contestant: Contestant, lengths: Lengths, clock: Callable[[], float] = time.perf_counter) -> Sample:
    """Load, read, decode.

    Args:
        contestant: Not loaded yet.
        lengths: What is measured.
        clock: Seconds.
    """
    random = np.random.default_rng(0)

    def seconds(call: Callable[..., object], *arguments: object) -> float:
        start = clock()
        call(*arguments)
        return clock() - start

    def prompt(length: int) -> NDArray[np.int64]:
        return random.integers(0, contestant.vocab_size, length)

    before = resident()
    load = seconds(contestant.load)
    first = seconds(contestant.read, prompt(lengths.first_prompt), 1)
    after = resident()
    prefill, decode = {}, {}
    for n in lengths.prompts:
        prefill[n] = median(seconds(contestant.read, prompt(n), 1) for _ in range(REPEATS))
    for c in lengths.contexts:
        contestant.read(prompt(c), WARM_STEPS + lengths.new_tokens + 1)
        steps = [seconds(contestant.step) for _ in range(WARM_STEPS + lengths.new_tokens)]
        decode[c] = median(steps[WARM_STEPS:])
    return Sample(load, first, before, after, peak_resident(), prefill, decode, describe_environment())
