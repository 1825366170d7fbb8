"""What the compiled CPU kernels share: how they are compiled, and on how many threads they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numba
import numpy as np
import torch

MAGIC = np.float32(1.5 * 2**23)
"""x + MAGIC - MAGIC rounds float32 |x| < 2^22 half to even, and vectorises everywhere."""

_F = TypeVar("_F", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[_F], _F]:
    """``numba.njit`` with a cache on disk where one can be written, else without."""

    def decorate(function: _F) -> _F:
        arguments = {"error_model": "numpy", "nogil": True, **options}
        try:
            return numba.njit(cache=True, **arguments)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # "cannot cache function: no locator available"
            return numba.njit(**arguments)(function)  # type: ignore[no-any-return]

    return decorate


@contextmanager
def threads_of_torch() -> Iterator[int]:
    """Run numba on as many threads as torch may use, and give torch its number back.

    Both share one OpenMP runtime, so a parallel numba kernel changes torch's setting for good.
    """
    threads, before = torch.get_num_threads(), numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        yield numba.get_num_threads()
    finally:
        numba.set_num_threads(before)
        torch.set_num_threads(threads)
