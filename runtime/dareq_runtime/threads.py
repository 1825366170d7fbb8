"""How many threads decode fastest here: tried, not guessed.

A token reads every weight once, so memory is the limit and more threads than it feeds only disturb each other; on
phones the small cores hold back the big ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from dareq_runtime.decoder import Cache
from dareq_runtime.session import Graph

WARM, STEPS = 2, 8
SECONDS = 3.0
MARGIN = 0.03


def candidates(cores: int) -> Iterator[int]:
    """Numbers of threads worth a try: 1, 2, 3, 4, 6, 8, 12, … and all cores."""
    tried = [1, *(n for power in range(1, cores.bit_length() + 1) for n in (2**power, 3 * 2 ** (power - 1)))]
    return iter(sorted({min(n, cores) for n in tried}))


def smallest_fast(times: Mapping[int, float]) -> int:
    """The fewest threads whose time is within ``MARGIN`` of the best.

    Args:
        times: Seconds per step by number of threads; not empty.
    """
    best = min(times.values())
    return min(n for n, t in times.items() if t <= best * (1 + MARGIN))


def measured_threads(open_with: Callable[[int], Graph], cores: int, *, seconds: float = SECONDS) -> int:
    """Time decode steps with more and more threads.

    One session is open at a time, so memory holds one copy of the weights. No further number is tried once
    ``seconds`` have passed.

    Args:
        open_with: Opens the graph with so many threads.
        cores: Most threads to try.
        seconds: Time after which the best so far is taken.
    """
    until = time.perf_counter() + seconds
    times: dict[int, float] = {}
    for n in candidates(cores):
        times[n] = _seconds_per_step(open_with(n), until)
        if time.perf_counter() > until:
            break
    return smallest_fast(times)


def _seconds_per_step(graph: Graph, until: float) -> float:
    """The median of a few steps near the start of a context; of one step where that is late already."""
    step = Cache(graph, 1, WARM + STEPS).stepper()
    times: list[float] = []
    for _ in range(WARM + STEPS):
        began = time.perf_counter()
        step([0])
        times.append(time.perf_counter() - began)
        if began > until:
            break
    timed = sorted(times[WARM:] or times[-1:])
    return timed[len(timed) // 2]
