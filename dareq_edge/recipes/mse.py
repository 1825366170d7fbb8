"""The scale with the least squared error of the weights, both signs of the grid."""

from __future__ import annotations

from dataclasses import dataclass

from dareq_edge.plan import Entropy
from dareq_edge.recipes._matrix import MatrixRecipe


@dataclass(frozen=True, slots=True)
class LeastSquares(MatrixRecipe):
    """See ``dareq_edge.quantizers.mse``."""

    method: str | None = "mse"
    entropy: Entropy | None = None


RECIPE = LeastSquares
