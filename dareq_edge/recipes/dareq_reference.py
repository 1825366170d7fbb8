"""DARE-Q as the published code computes it: the entropy of a density histogram, which always picks absmax / q_max."""

from __future__ import annotations

from dataclasses import dataclass

from dareq_edge.plan import Entropy
from dareq_edge.recipes._matrix import MatrixRecipe


@dataclass(frozen=True, slots=True)
class DareQReference(MatrixRecipe):
    """See ``dareq_edge.quantizers.dareq``, entropy "density"."""

    method: str | None = "dareq"
    entropy: Entropy | None = "density"


RECIPE = DareQReference
