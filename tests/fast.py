"""Which cases of a table every change runs, and which only ``make test-all`` does."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def fast(cases: Iterable[Any], *often: Any) -> list[Any]:
    """The cases as parameters, all but those in ``often`` marked slow.

    Raises:
        ValueError: One of ``often`` is no case, and so would run nowhere.
    """
    every = list(cases)
    for case in often:
        if case not in every:
            raise ValueError(f"{case!r} is not among {every!r}")
    return [case if case in often else slow(case) for case in every]


def slow(case: Any) -> Any:
    """One case, whose values are those of a tuple, that only ``make test-all`` runs."""
    values: Collection[Any] = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
