"""Signed codes: what roundings hand to each other, and the way from there to a QuantizedTensor."""

from __future__ import annotations

import torch

from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec


def expand(scales: torch.Tensor, spec: QuantSpec, k: int) -> torch.Tensor:
    """The scale of every weight.

    Args:
        scales: [N, G].
        spec: Names the group size; the last group may be short.
        k: K.

    Returns:
        [N, K]; a view per channel.
    """
    if spec.group_size is None:
        return scales.expand(-1, k)
    return scales.repeat_interleave(spec.group_size, dim=1)[:, :k]


def nearest(weight: torch.Tensor, scales: torch.Tensor, spec: QuantSpec) -> torch.Tensor:
    """The code nearest to each weight: float32 [N, K] and [N, G] → int8 [N, K]."""
    zero = spec.zero_point
    return (weight / expand(scales, spec, weight.shape[1])).round_().clamp_(-zero, zero - 1).to(torch.int8)


def dequantize(q: torch.Tensor, scales: torch.Tensor, spec: QuantSpec) -> torch.Tensor:
    """The weights that codes stand for, s q: int8 [N, K] and float32 [N, G] → float32 [N, K]."""
    return q * expand(scales, spec, q.shape[1])


def to_quantized(q: torch.Tensor, scales: torch.Tensor, spec: QuantSpec) -> QuantizedTensor:
    """The stored form of signed codes.

    Args:
        q: int8 [N, K].
        scales: float32 [N, G], as ``quantizers._grid.stored_scales`` made them.
        spec: How the matrix is quantized.
    """
    codes = (q.to(torch.int16) + spec.zero_point).to(torch.uint8)
    return QuantizedTensor(codes.cpu().numpy(), scales.float().cpu().numpy(), spec)


def output_error(
    weight: torch.Tensor, second: torch.Tensor, q: torch.Tensor, scales: torch.Tensor, spec: QuantSpec
) -> torch.Tensor:
    """D H Dᵀ's diagonal, D = W - s q: the mean squared error of each output, float64 [N]."""
    d = weight.double() - dequantize(q, scales, spec).double()
    return ((d @ second.double()) * d).sum(dim=1)
