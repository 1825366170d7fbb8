"""What is tuned: a gain per row of every quantized layer, and vectors (norm gains and biases, biases of layers)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantizers import _grid
from dareq_edge.recipes import Change
from dareq_edge.tuning.coded import CodedLinear


class Number(Protocol):
    """Numbers of one tensor, and how far each is from where it started, relative to its unit: r, 0 at first."""

    @property
    def target(self) -> str:
        """Name of the tensor in the model; of gains, the weight's."""

    @property
    def parameter(self) -> nn.Parameter:
        """Where autograd leaves its gradient, one element per r."""

    @property
    def moved(self) -> bool:
        """Whether what is stored is no longer what it was."""

    def gradient(self) -> torch.Tensor:
        """Derivative of the loss by r, float32, flat; zero where nothing was gathered."""

    def move(self, r: torch.Tensor) -> None:
        """Let the model compute with the numbers at r, float32, flat, as they would be stored."""

    def change(self) -> Change:
        """The tensor as it is now."""


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """A layer's scales: those of a row move together, each by the same share of itself.

    That every scale of a group goes its own way needs the weight's gradient, and gained nothing on SmolLM2-135M.
    """

    target: str
    coded: CodedLinear
    value: QuantizedTensor

    @property
    def parameter(self) -> nn.Parameter:
        """See ``Number``."""
        return self.coded.gains

    @property
    def moved(self) -> bool:
        """See ``Number``."""
        return not torch.equal(self.coded.scales, self._start)

    def gradient(self) -> torch.Tensor:
        """See ``Number``."""
        return _gathered(self.parameter)

    def move(self, r: torch.Tensor) -> None:
        """See ``Number``; a scale that would vanish stays what it was."""
        wanted = self._start * (1 + r)[:, None]
        stored = _grid.stored_scales(wanted, self.value.spec)
        self.coded.gains.data.copy_(1 + r)
        self.coded.scales.copy_(torch.where(wanted.abs() < _grid.TINY, self._start, stored))

    def change(self) -> Change:
        """See ``Number``."""
        return self.target, QuantizedTensor(self.value.codes, self.coded.scales.clone().numpy(), self.value.spec)

    @property
    def _start(self) -> torch.Tensor:
        return torch.from_numpy(self.value.scales)


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """A norm's gain or bias, or a layer's bias; its unit is its root mean square.

    Attributes:
        target: See ``Number``.
        module: Computes with it.
        leaf: Its name there.
        parameter: The tensor itself, float32 [N].
        start: What it was before, float32 [N].
        dtype: In which it is stored.
    """

    target: str
    module: nn.Module
    leaf: str
    parameter: nn.Parameter
    start: torch.Tensor
    dtype: torch.dtype

    @classmethod
    def take(cls, target: str, module: nn.Module, leaf: str, dtype: torch.dtype) -> Vector:
        """Put a float32 copy in a parameter's place."""
        start = module._parameters[leaf].detach().float()  # type: ignore[union-attr]  # the caller looked
        parameter = nn.Parameter(start.clone())
        module._parameters[leaf] = parameter
        return cls(target, module, leaf, parameter, start, dtype)

    @property
    def moved(self) -> bool:
        """See ``Number``."""
        return not torch.equal(self.parameter.detach(), self.start)

    def gradient(self) -> torch.Tensor:
        """See ``Number``."""
        return _gathered(self.parameter) * self._unit

    def move(self, r: torch.Tensor) -> None:
        """See ``Number``."""
        self.parameter.data.copy_((self.start + r * self._unit).to(self.dtype))

    def change(self) -> Change:
        """See ``Number``."""
        return self.target, self.parameter.detach().to(self.dtype, copy=True)

    @property
    def _unit(self) -> torch.Tensor:
        size = self.start.square().mean().sqrt()
        return torch.where(size > 0, size, 1.0)


def _gathered(parameter: nn.Parameter) -> torch.Tensor:
    return torch.zeros_like(parameter.detach()) if parameter.grad is None else parameter.grad
