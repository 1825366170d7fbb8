"""What 4-bit codebooks of bitsandbytes share: blocks of the flattened matrix, an absmax each, nearest level."""

from __future__ import annotations

from collections.abc import Callable

import torch

from dareq_edge.dequantized import refuse_scale_dtype
from dareq_edge.errors import SpecError
from dareq_edge.quantizers._grid import TINY, check
from dareq_edge.spec import QuantSpec

Choose = Callable[[torch.Tensor], torch.Tensor]
"""Weights over their block's absmax, float32 [M, G] in [-1, 1], to the levels that stand for them."""


def through_codebook(
    weight: torch.Tensor, size: int, name: str, choose: Choose, compress: Choose | None = None
) -> torch.Tensor:
    """A matrix after a trip through a codebook; a block of zeros stays zero.

    Args:
        weight: Floating point [N, K] on any device; not changed.
        size: Weights per block; blocks are cut from the flattened matrix, so that they may straddle rows.
        name: The tensor's name, for error messages.
        choose: The codebook.
        compress: What the blocks' absmax, float32 [M], goes through; ``None`` keeps them.

    Returns:
        float32 [N, K].

    Raises:
        CheckpointError: The weight is not a floating-point matrix, or holds NaN or infinity.
    """
    check(weight, name)
    flat = weight.detach().float().reshape(-1)
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % size)).reshape(-1, size)
    absmax = blocks.abs().amax(dim=1)
    normed = blocks * inverse(absmax)[:, None]
    absmax = torch.where(absmax < TINY, 0, absmax)
    out = choose(normed) * (absmax if compress is None else compress(absmax))[:, None]
    return out.reshape(-1)[: flat.numel()].reshape(weight.shape)


def inverse(absmax: torch.Tensor) -> torch.Tensor:
    """1 / absmax, and 1 where absmax is too small to be divided by."""
    return 1.0 / torch.where(absmax < TINY, 1, absmax)


def nearest(x: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    """The nearest of the rising levels [C], the lower one on a tie; same shape as x."""
    return levels[torch.bucketize(x.contiguous(), (levels[:-1] + levels[1:]) / 2)]


def block_of(spec: QuantSpec, method: str) -> int:
    """Block size of a spec.

    Raises:
        SpecError: The method does not exist in this form.
    """
    refuse_scale_dtype(method, spec)
    if spec.bits != 4 or spec.group_size not in (64, 128, 256):
        raise SpecError(
            f"{method} has no form with {spec.bits} bits, {spec.scheme}; use 4 bits and group 64, 128 or 256"
        )
    return spec.group_size
