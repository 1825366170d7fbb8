"""CodedLinear: a linear layer of fixed codes whose scales can be differentiated.

Per channel the scale multiplies the output, so that products use whole numbers, which bfloat16 holds exactly, and no
gradient of the weight is needed; groups need the weight written out, and its gradient.
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
        self.scales = nn.Parameter(torch.from_numpy(value.scales).clone())
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Floating [..., K] → [..., N], in bfloat16 under autocast."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if self.spec.group_size is None:
            y = F.linear(x.to(dtype), self.q.to(dtype))
            y = _Scale.apply(y, self.scales[:, 0])  # type: ignore[no-untyped-call]
        else:
            weight = _Expand.apply(self.q, self.scales, self.spec.group_size, dtype)  # type: ignore[no-untyped-call]
            y = F.linear(x.to(dtype), weight)
        return y if self.bias is None else y + self.bias.to(dtype)


class _Scale(torch.autograd.Function):
    """y [..., N] times s float32 [N], in y's dtype; the product is rounded once."""

    @staticmethod
    def forward(ctx: Any, y: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(y, s)
        return _times(y, s)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (grad,), (y, s) = grads, ctx.saved_tensors
        return _times(grad, s), (grad * y).flatten(0, -2).sum(dim=0).float()


def _times(y: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    short = s.to(y.dtype)
    return y * short if torch.equal(short.float(), s) else (y * s).to(y.dtype)


class _Expand(torch.autograd.Function):
    """s q in a dtype: int8 [N, K] and float32 [N, G] → [N, K]."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, s: torch.Tensor, size: int, dtype: torch.dtype) -> torch.Tensor:
        ctx.save_for_backward(q)
        ctx.size, ctx.groups = size, s.shape[1]
        return s.repeat_interleave(size, dim=1)[:, : q.shape[1]].mul(q).to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[None, torch.Tensor, None, None]:
        (grad,), (q,) = grads, ctx.saved_tensors
        each = F.pad(grad.float().mul_(q), (0, ctx.groups * ctx.size - q.shape[1]))
        return None, each.view(len(q), ctx.groups, ctx.size).sum(dim=2), None, None
