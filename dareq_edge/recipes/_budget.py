"""Budget: the slope at which what is left of the bits is spent exactly, asked for before every block.

One slope for all blocks is the allocation that costs least. Given rates per block instead, as a rule of allocation
decides them, every block has a slope of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
_EVEN = 0.05  # bits between a layer and its block's rate
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
        left = self._left(index, coded)
        ratio = coded / surveyed if surveyed > 0 else FIRST_GUESS
        return _slope_at(lambda slope: ratio * self.survey.bits(slope, index, until), left)

    def block_rate(self, index: int, spent: torch.Tensor) -> float:
        """Bits per weight left for block ``index``; where there are no rates, for it and all that follow."""
        here = self.survey.block == index if self.rates else self.survey.block >= index
        return self._left(index, float(spent[0])) / float(self.survey.weights[here].sum())

    def _left(self, index: int, coded: float) -> float:
        return self._allowed(index + 1 if self.rates else None) - coded

    def even_factors(self, index: int, slope: float) -> list[float]:
        """What the slope of each layer is ``slope`` times, so that all take the same bits per weight.

        Args:
            index: Which block; its layers are in the order of the survey.
            slope: Nats per bit; together they take what they would take at it.
        """
        layers = (self.survey.block == index).nonzero()[:, 0]
        rate = self.survey.bits(slope, index, index + 1) / float(self.survey.weights[layers].sum())
        return [_slope_at(lambda s, i=i: self.survey.layer_rate(i, s), rate) / slope for i in layers.tolist()]  # type: ignore[misc]

    def _allowed(self, until: int | None) -> float:
        """Bits of the blocks before ``until``, or of all."""
        if until is None:
            return self.target_bits * float(self.survey.weights.sum())
        return math.fsum(
            self.rates[i] * float(self.survey.weights[self.survey.block == i].sum()) for i in range(until)
        )

    def next_slope(self, slope: float, changes: list[Change], spent: torch.Tensor, *, exactly: bool) -> float:
        """A slope for the last block that comes nearer to what is allowed: a bit less for each factor of 4.

        Args:
            slope: At which it was quantized.
            changes: What came out.
            spent: Before it.
            exactly: Whether more than is allowed will not do, however little it is.

        Returns:
            ``slope`` itself, if that is near enough.
        """
        allowed, taken = self._total(), float(spent[0]) + coded_bits(changes)
        if allowed * (1 - _NEAR) <= taken <= allowed * (1 if exactly else 1 + _NEAR):
            return slope
        weights = float(self.survey.weights[self.survey.block == self.survey.block.max()].sum())
        missed = (taken - allowed * (1 - _NEAR / 2)) / weights
        return float(slope * 4.0**missed)

    def _total(self) -> float:
        return self._allowed(int(self.survey.block.max()) + 1 if self.rates else None)

    def spend(self, index: int, slope: float, changes: list[Change], spent: torch.Tensor) -> torch.Tensor:
        """``spent`` after block ``index``."""
        return spent + torch.tensor(
            [coded_bits(changes), self.survey.bits(slope, index, index + 1)], dtype=torch.float64
        )


def _slope_at(bits: Callable[[float], float], wanted: float) -> float:
    """The smallest slope at which falling ``bits`` are not above what is wanted."""
    low, high = _LOWEST, _HIGHEST
    while high - low > 1e-4:
        middle = (low + high) / 2
        if bits(2.0**middle) > wanted:
            low = middle
        else:
            high = middle
    return float(2.0**high)


def evened(factors: Mapping[str, float], changes: list[Change], wanted: float) -> Mapping[str, float]:
    """Factors of a block's layers (see ``RateRounding``) that bring their rates nearer to the block's.

    Args:
        factors: At which they were quantized, by name; may be empty.
        changes: What came out.
        wanted: Bits per weight.

    Returns:
        ``factors`` itself, if rates are near enough.
    """
    rates = {name: _rate(v) for name, v in changes if isinstance(v, QuantizedTensor)}
    if not factors or max(abs(rate - wanted) for rate in rates.values()) <= _EVEN:
        return factors
    return {name: factor * 4.0 ** (rates[f"{name}.weight"] - wanted) for name, factor in factors.items()}


def _rate(value: QuantizedTensor) -> float:
    return 8 * coded_bytes(value.codes, value.scales, value.spec.bits) / value.codes.size


def coded_bits(changes: list[Change]) -> float:
    """Bits of all matrices in a container."""
    values = [value for _, value in changes if isinstance(value, QuantizedTensor)]
    return math.fsum(8 * coded_bytes(v.codes, v.scales, v.spec.bits) for v in values)
