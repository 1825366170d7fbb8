"""CodedLinear: a linear layer of fixed codes whose rows have gains that can be differentiated.

Per channel the scale multiplies the output, so that products use whole numbers, which bfloat16 holds exactly; with
groups the weight is written out. No gradient of the weight is needed either way.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own name for it
from torch import nn

from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec


class CodedLinear(nn.Module):
    """y = x (s q)ᵀ + b, in the layout of ``nn.Linear`` and ``Conv1D``: x is [..., K], y is [..., N].

    Args:
        value: Codes and scales.
        bias: float32 [N]; becomes this module's parameter.
    """

    def __init__(self, value: QuantizedTensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.spec: QuantSpec = value.spec
        codes = torch.from_numpy(value.codes)
        self.q = codes.to(torch.int16).sub_(value.spec.zero_point).to(torch.int8)
        """Signed codes, int8 [N, K]."""
        self.scales = torch.from_numpy(value.scales).clone()
        """Scales as stored, float32 [N, G], gains included."""
        self.gains = nn.Parameter(torch.ones(len(self.q)))
        """How many times its first scales a row has now, float32 [N]: there to be differentiated, not to multiply."""
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Floating [..., K] → [..., N], in bfloat16 under autocast."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if self.spec.group_size is None:
            y = _times(F.linear(x.to(dtype), self.q.to(dtype)), self.scales[:, 0])
        else:
            wide = self.scales.repeat_interleave(self.spec.group_size, dim=1)[:, : self.q.shape[1]]
            y = F.linear(x.to(dtype), wide.mul_(self.q).to(dtype))
        out: torch.Tensor = _Gain.apply(y, self.gains)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias.to(dtype)


class _Gain(torch.autograd.Function):
    """y [..., N] itself, and its derivative by the gains float32 [N] that are in it already."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(y, gains)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (grad,), (y, gains) = grads, ctx.saved_tensors
        return grad, (grad * y).flatten(0, -2).sum(dim=0).float() / gains


def _times(y: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """The product of y [..., N] and s float32 [N], in y's dtype, rounded once."""
    short = s.to(y.dtype)
    return y * short if torch.equal(short.float(), s) else (y * s).to(y.dtype)
