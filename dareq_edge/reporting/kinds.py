"""Matrices of one kind over the blocks: what charts by layer have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dareq_edge.reporting.charts.lines import Point, Series
from dareq_edge.reporting.statistics import MatrixStats


def short_names(matrices: Sequence[MatrixStats]) -> dict[str, str]:
    """The last part of every kind's name where that is enough to tell them apart, by kind."""
    kinds = list(dict.fromkeys(m.kind for m in matrices))
    ends = [k.rsplit(".", 1)[-1] for k in kinds]
    return {k: e if ends.count(e) == 1 else k for k, e in zip(kinds, ends, strict=True)}


def by_block(matrices: Sequence[MatrixStats], value: Callable[[MatrixStats], Point]) -> list[Series]:
    """A series per kind of the matrices in blocks; tables and what else lies outside has no place in them."""
    names = short_names(matrices)
    found: dict[str, list[Point]] = {}
    for m in matrices:
        if m.block is not None:
            found.setdefault(names[m.kind], []).append(value(m))
    return [Series(kind, tuple(points)) for kind, points in found.items()]
