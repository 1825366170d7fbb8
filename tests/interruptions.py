"""Stopping a recipe in the middle, as a user would, and comparing what came of it."""

from __future__ import annotations

from pathlib import Path

import torch

from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.recipes import Recipe
from tiny_sources import stored


def same(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same tensors."""
    one, two = stored(a), stored(b)
    return set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)


class _Interrupted(Exception):  # noqa: N818  # stands for what a user does
    pass


def interrupted(call: int, source: Path, out: Path, made: Recipe) -> list[tuple[str, int]]:
    """Stop at the given call of progress; returns the calls until then."""
    calls: list[tuple[str, int]] = []

    def progress(stage: str, done: int, total: int) -> None:
        calls.append((stage, done))
        if len(calls) == call + 1:
            raise _Interrupted

    try:
        quantize_checkpoint(source, out, QuantOptions(table_bits=8), made, progress=progress)
    except _Interrupted:
        assert not out.exists()
    return calls
