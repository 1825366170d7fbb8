"""Budget: the slope at which what is left of the bits is spent exactly, asked for before every block.

One slope for all blocks is the allocation that costs least. Given rates per block instead, as a rule of allocation
decides them, every block has a slope of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from dareq_edge.container import coded_bytes
from dareq_edge.errors import SpecError
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Change
from dareq_edge.recipes._survey import Survey

FIRST_GUESS = 1.03
"""Coded bits against the survey's: scales, tables of the coder, what feedback adds to variance."""
_NEAR = 0.001  # of the whole budget
_LOWEST, _HIGHEST = -80.0, 40.0  # log2 of slopes, nats per bit


@dataclass(frozen=True, slots=True, eq=False)
class Budget:
    """See the module.

    Attributes:
        survey: What layers take.
        target_bits: Coded bits per weight over all layers, scales included.
        rates: Instead: the same of every block, so that none may take what another has left.

    Raises:
        SpecError: There is not one rate per block.
    """

    survey: Survey
    target_bits: float
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        blocks = int(self.survey.block.max()) + 1
        if self.rates and len(self.rates) != blocks:
            raise SpecError(f"rates has {len(self.rates)} numbers for {blocks} blocks; give one per block")

    def slope(self, index: int, spent: torch.Tensor) -> float:
        """Nats per bit for block ``index``.

        Args:
            index: Which block is next.
            spent: Bits of the blocks before it, as coded and as surveyed, float64 [2].
        """
        coded, surveyed = spent.tolist()
        until = index + 1 if self.rates else None
        left = self._allowed(until) - coded
        ratio = coded / surveyed if surveyed > 0 else FIRST_GUESS
        low, high = _LOWEST, _HIGHEST
        while high - low > 1e-4:
            middle = (low + high) / 2
            if ratio * self.survey.bits(2.0**middle, index, until) > left:
                low = middle
            else:
                high = middle
        return float(2.0**high)

    def _allowed(self, until: int | None) -> float:
        """Bits of the blocks before ``until``, or of all."""
        if until is None:
            return self.target_bits * float(self.survey.weights.sum())
        return math.fsum(
            self.rates[i] * float(self.survey.weights[self.survey.block == i].sum()) for i in range(until)
        )

    def met(self, changes: list[Change], spent: torch.Tensor, *, exactly: bool) -> bool:
        """Whether the whole is what is allowed, when the last block is added to what was spent before it.

        Args:
            changes: Of the last block.
            spent: Before it.
            exactly: Whether more will not do, however little it is.
        """
        allowed, taken = self._total(), float(spent[0]) + coded_bits(changes)
        return taken <= allowed * (1 if exactly else 1 + _NEAR) and taken >= allowed * (1 - _NEAR)

    def next_slope(self, slope: float, changes: list[Change], spent: torch.Tensor) -> float:
        """A slope for the last block that comes nearer than ``slope`` did: a bit less for each factor of 4."""
        weights = float(self.survey.weights[self.survey.block == self.survey.block.max()].sum())
        missed = (float(spent[0]) + coded_bits(changes) - self._total() * (1 - _NEAR / 2)) / weights
        return float(slope * 4.0**missed)

    def _total(self) -> float:
        return self._allowed(int(self.survey.block.max()) + 1 if self.rates else None)

    def spend(self, index: int, slope: float, changes: list[Change], spent: torch.Tensor) -> torch.Tensor:
        """``spent`` after block ``index``."""
        return spent + torch.tensor(
            [coded_bits(changes), self.survey.bits(slope, index, index + 1)], dtype=torch.float64
        )


def coded_bits(changes: list[Change]) -> float:
    """Bits of all matrices in a container."""
    values = [value for _, value in changes if isinstance(value, QuantizedTensor)]
    return math.fsum(8 * coded_bytes(v.codes, v.scales, v.spec.bits) for v in values)
