"""What FastEWQ's forests see of a block: numbers that follow from config.json alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from dareq_edge.allocation.facts import Facts

FeatureSet = Literal["published", "relative"]

FEATURES: Mapping[FeatureSet, tuple[str, ...]] = {
    "published": ("num_parameters", "exec_index", "num_blocks"),
    "relative": ("depth", "from_start", "from_end"),
}
"""Columns by set.

num_parameters: weights in the block's matrices. exec_index: 2 for the first block, as published, where the embedding
is 1 (unverified). depth: 0 for the first block to 1 for the last. from_start, from_end: blocks before and after it.
Sizes are left out there: a model's blocks are equal, and how large they are only tells the table's models apart."""


def block_features(facts: Facts, which: FeatureSet) -> list[tuple[float, ...]]:
    """One row per block; the columns are ``FEATURES[which]``."""
    sizes = [facts.parameters(i) for i in range(facts.blocks)]
    return features_of_sizes(sizes, which)


def features_of_sizes(sizes: list[int], which: FeatureSet) -> list[tuple[float, ...]]:
    """The same from the weights in every block."""
    count = len(sizes)
    if which == "published":
        return [(float(size), i + 2.0, float(count)) for i, size in enumerate(sizes)]
    last = max(count - 1, 1)
    return [(i / last, float(i), float(count - 1 - i)) for i in range(count)]
