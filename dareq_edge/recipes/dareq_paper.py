"""DARE-Q as its paper prints it: the entropy of normalized probabilities, which picks much coarser scales."""

from __future__ import annotations

from dataclasses import dataclass

from dareq_edge.plan import Entropy
from dareq_edge.recipes._matrix import MatrixRecipe


@dataclass(frozen=True, slots=True)
class DareQPaper(MatrixRecipe):
    """See ``dareq_edge.quantizers.dareq``, entropy "probability"."""

    method: str | None = "dareq"
    entropy: Entropy | None = "probability"


RECIPE = DareQPaper
