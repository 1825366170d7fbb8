"""Budget: the slope at which what is left of the bits is spent exactly, asked for before every block."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from dareq_edge.container import coded_bytes
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Change
from dareq_edge.recipes._survey import Survey

_FIRST_GUESS = 1.03  # coded bits against the survey's: scales, tables of the coder, what feedback adds to variance
_LOWEST, _HIGHEST = -80.0, 40.0  # log2 of slopes, nats per bit


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """See the module.

    Attributes:
        survey: What layers take.
        target_bits: Coded bits per weight over all layers, scales included.
    """

    survey: Survey
    target_bits: float

    def slope(self, index: int, spent: torch.Tensor) -> float:
        """Nats per bit for block ``index``.

        Args:
            index: Which block is next.
            spent: Bits of the blocks before it, as coded and as surveyed, float64 [2].
        """
        coded, surveyed = spent.tolist()
        left = self.target_bits * float(self.survey.weights.sum()) - coded
        ratio = coded / surveyed if surveyed > 0 else _FIRST_GUESS
        low, high = _LOWEST, _HIGHEST
        while high - low > 1e-4:
            middle = (low + high) / 2
            if ratio * self.survey.bits(2.0**middle, index) > left:
                low = middle
            else:
                high = middle
        return float(2.0**high)

    def spend(self, index: int, slope: float, changes: list[Change], spent: torch.Tensor) -> torch.Tensor:
        """``spent`` after block ``index``."""
        return spent + torch.tensor(
            [coded_bits(changes), self.survey.bits(slope, index, index + 1)], dtype=torch.float64
        )


def coded_bits(changes: list[Change]) -> float:
    """Bits of all matrices in a container."""
    values = [value for _, value in changes if isinstance(value, QuantizedTensor)]
    return math.fsum(8 * coded_bytes(v.codes, v.scales, v.spec.bits) for v in values)
