"""Balance: columns that cost more are made larger before they are rounded, exactly, where a fold allows it.

A row has one step for all its columns. With t_j = sqrt(d_j) up to a constant (d_j as in ``rounding.rate``), weights
w_j t_j and inputs x_j / t_j, every column costs the same, which is where bits are spent best: at the same error, half
the logarithm of d's arithmetic over its geometric mean is saved per weight. What makes the inputs is divided by t: a
norm's gain, or the scales of the rows before, so that nothing is stored or computed that was not there. Factors are
those that the stored numbers can hold: the new gain or scale is rounded first, and t is what it was divided by.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from dareq_edge.blockwise.walk import Decoder
from dareq_edge.folds import FOLDS, Fold, folds
from dareq_edge.matrix import LINEARS, matrix_of
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantizers import _grid
from dareq_edge.recipes import Change
from dareq_edge.rounding.feedback import Factor

_LARGEST = 8.0
"""Of t over its geometric mean, and of the inverse: inputs that hardly occur in the text still pass."""


@dataclass(frozen=True, slots=True, eq=False)
class Balance:
    """Where factors of one group of layers can go.

    Attributes:
        fold: The place, from ``find_fold``.
        block: The block, whose weights change in ``apply``.
        prefix: Name of the block.
        dtype: In which the file stores what comes before.
        rows: What was quantized of the layer before; ``None`` if a norm comes before.
    """

    fold: Fold
    block: nn.Module
    prefix: str
    dtype: torch.dtype
    rows: QuantizedTensor | None

    def factors(self, factor: Factor) -> torch.Tensor:
        """T as it can be stored: float32 [K], positive."""
        wanted = wanted_factors(factor)
        now = self._numbers(len(wanted))
        new = self._stored(now / wanted)
        usable = (now.abs() > _grid.TINY) & (new.abs() > _grid.TINY)
        return torch.where(usable, now / new, 1.0).float()

    def apply(self, factors: torch.Tensor) -> list[Change]:
        """Divide what makes the inputs by t: float32 [K]; what changes."""
        module = self.block.get_submodule(self.fold.before)
        name, bias = f"{self.prefix}.{self.fold.before}", module._parameters.get("bias")
        new = self._stored(self._numbers(len(factors)) / factors)
        changes: list[Change] = []
        if bias is not None:
            bias.data[-len(factors) :] /= factors
            bias.data.copy_(bias.data.to(self.dtype))
            changes.append((f"{name}.bias", bias.detach().to(self.dtype)))
        if self.rows is None:
            stored = (new - self.fold.offset).to(self.dtype)
            module.weight.copy_(stored)  # type: ignore[operator]
            return [*changes, (f"{name}.weight", stored)]
        scales = torch.from_numpy(self.rows.scales).clone()
        scales[-len(factors) :, 0] = new
        value = QuantizedTensor(self.rows.codes, scales.numpy(), self.rows.spec)
        matrix_of(module).copy_(torch.from_numpy(value.dequantize()))
        return [*changes, (f"{name}.weight", value)]

    def _numbers(self, k: int) -> torch.Tensor:
        """Gains of the norm, or scales of the rows before: float64 [K]."""
        if self.rows is not None:
            return torch.from_numpy(self.rows.scales[-k:, 0]).double()
        weight = self.block.get_submodule(self.fold.before).weight
        assert isinstance(weight, torch.Tensor), "an affine norm"
        return weight.detach().double() + self.fold.offset

    def _stored(self, numbers: torch.Tensor) -> torch.Tensor:
        """As the file will hold them, float64."""
        if self.rows is not None:
            return _grid.stored_scales(numbers, self.rows.spec).double()
        return (numbers - self.fold.offset).to(self.dtype).double() + self.fold.offset


def find_fold(decoder: Decoder, index: int, block: nn.Module, group: list[str]) -> Fold | None:
    """Where the factors of a group's columns can go.

    Args:
        decoder: The walk.
        index: The block.
        block: It.
        group: Layers that share an input.

    Returns:
        ``None`` if nothing is known of its architecture, no fold is exact, some layers with that input are not
        quantized, or a layer before has no scale per row.
    """
    source = decoder.skeleton.source
    config = source.checkpoint.config
    if config.get_text_config(decoder=True).model_type not in FOLDS:
        return None
    for fold in folds(config, block):
        if set(fold.after) == set(group):
            spec = source.plan.get(f"{decoder.path(index)}.{fold.before}")
            norm = not isinstance(block.get_submodule(fold.before), LINEARS)
            return fold if norm or (spec is not None and spec.group_size is None) else None
    return None


def balanced(second: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Second moment of inputs divided by t: float32 [K, K], new."""
    return second / factors / factors[:, None]


def evened(factor: Factor) -> Factor:
    """The factor of inputs divided by t, as estimated: every column costs the geometric mean, none helps another."""
    mean = float(factor.variances().double().clamp_min(_grid.TINY).log().mean().exp())
    return Factor(factor.order, torch.eye(len(factor.order)) * mean**-0.5)


def wanted_factors(factor: Factor) -> torch.Tensor:
    """T before it is made storable: float64 [K], positive, of geometric mean 1 unless some are at the limit."""
    logs = factor.variances().double().clamp_min(_grid.TINY).log().div_(2)
    return (logs - logs.mean()).exp().clamp(1 / _LARGEST, _LARGEST)
