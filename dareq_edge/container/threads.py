"""Work on many frames at once, in memory that does not grow with their number."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def count(threads: int | None) -> int:
    """Threads to use: what was asked for, or one per processor this process may use, at most 8."""
    if threads is not None:
        return max(1, threads)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, allowed)


def in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """``function`` of every item, in order; at most two items per thread are taken ahead of what was consumed."""
    if threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def shared(work: Callable[[Iterator[T]], None], items: Iterable[T], threads: int) -> None:
    """Run ``work`` in so many threads, each with an iterator over what the others left; none goes on once one failed.

    Raises:
        Exception: What the first failed ``work`` raised.
    """
    if threads == 1:
        work(iter(items))
        return
    source = _Source(items)

    def guarded() -> None:
        try:
            work(source)
        except BaseException:
            source.close()
            raise

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(guarded) for _ in range(threads)]:
            future.result()


class _Source(Generic[T]):
    """An iterator several threads may draw on."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items, self._lock = iter(items), Lock()

    def __iter__(self) -> _Source[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            return next(self._items)

    def close(self) -> None:
        with self._lock:
            self._items = iter(())
