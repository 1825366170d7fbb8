"""Round to nearest: scale absmax / q_max. The baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

from dareq_edge.plan import Entropy
from dareq_edge.recipes._matrix import MatrixRecipe


@dataclass(frozen=True, slots=True)
class RoundToNearest(MatrixRecipe):
    """See ``dareq_edge.quantizers.rtn``."""

    method: str | None = "rtn"
    entropy: Entropy | None = None


RECIPE = RoundToNearest
