"""Memory read bandwidth of this machine, the floor under every token.

Each of n Python threads takes the largest entry of its part of one int64 buffer with numpy, which releases the
interpreter's lock and compares whole vectors: from a cache it reads several times faster than from memory (43
against 6 GB/s where this was written), so what is timed is the memory. Sums, bitwise or, dot
products and other types gave the same figure from memory; float32 sums were the slowest from cache, at 11 GB/s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

SIZE = 256 << 20  # bytes; well beyond the last-level cache of anything small enough to be called an edge device
TRIES = 10


def read_bandwidth(
    threads: int, *, size: int = SIZE, tries: int = TRIES, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Bytes per second that ``threads`` threads read together; the best of several passes.

    Args:
        threads: 1 or more.
        size: Bytes of the buffer, a multiple of 8.
        tries: Passes over it.
        clock: Seconds.
    """
    buffer = np.ones(size // 8, np.int64)  # ones: pages of zeros may all be the same page
    parts = np.array_split(buffer, threads)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(tries):
            start = clock()
            for largest in pool.map(np.max, parts):
                assert largest == 1
            best = min(best, clock() - start)
    return buffer.nbytes / best
