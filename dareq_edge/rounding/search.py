"""Scales by search: per segment, the candidate with the least weighted error, and entropy if it is asked for.

With w the segment's weights, h its importance, and q the nearest codes for a scale s, the objective is

    10 log10(sum_j h_j |w_j - s q_j|^p) + entropy_weight * 6.02 * H(q),    H in bits per weight

the idea of DARE-Q (distortion plus entropy) with both terms in decibels. At high rate a step twice as fine costs one
bit and gains 20 log10(2) = 6.02 dB of squared error, so a weight of 1 makes all fine steps equally good (with p = 2),
0 counts the error alone, and between the two finer steps win as long as they gain more than their share.
Candidates are f absmax / q_max for f from 0.35 to 1.05 and exactly 1, and the same factors times the scale that puts
the weight of largest magnitude on the code -2^(bits-1), which is negative if that weight is positive.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from dareq_edge.quantizers import _grid
from dareq_edge.spec import QuantSpec

_FACTORS = np.append(np.linspace(0.35, 1.05, 36), 1.0)
_DECIBELS_PER_BIT = 20 * math.log10(2)
_SEGMENTS = 1 << 17  # searched at a time: bounds the memory that candidates take
POWERS = (2, 4, 8)
"""Values that p may have."""


def absmax_scales(weight: torch.Tensor, spec: QuantSpec, *, name: str = "weight") -> torch.Tensor:
    """Every segment's absmax / q_max, as stored: [N, K] → float32 [N, G]; what a search is measured against."""
    _grid.check(weight, name)
    parts = torch.split(weight.detach().float().abs(), spec.group_size or weight.shape[1], dim=1)
    return _grid.stored_scales(torch.stack([p.amax(dim=1) for p in parts], dim=1) / (spec.zero_point - 1), spec)


def search_scales(
    weight: torch.Tensor,
    importance: torch.Tensor | None,
    spec: QuantSpec,
    *,
    power: int = 2,
    entropy_weight: float = 0.0,
    signed: bool = True,
    name: str = "weight",
) -> torch.Tensor:
    """The best scale of every segment; candidates are rounded as they will be stored before they are compared.

    Args:
        weight: W or another target, floating [N, K].
        importance: h, floating [K], 0 or more: the diagonal of the second moment; ``None`` is 1 everywhere. Segments
            whose inputs are all 0 are searched as if it were.
        spec: Bits, group size, precision of scales.
        power: p, one of ``POWERS``: large ones spare the largest errors, so that nothing is clipped far.
        entropy_weight: See the module; 0 or more.
        signed: Also the grid of the signed maximum.
        name: For messages.

    Returns:
        float32 [N, G], as stored, of either sign.

    Raises:
        CheckpointError: NaN or infinity.
    """
    _grid.check(weight, name)
    n, k = weight.shape
    h = torch.ones(k) if importance is None else importance.detach().float()
    scales = torch.empty(n, spec.groups(k))
    for columns, groups, length in _grid.column_blocks(k, spec):
        part = _normalised(h[columns].reshape(-1, length))
        segments = weight.detach()[:, columns].float().reshape(-1, length)
        step = max(1, _SEGMENTS // len(part)) * len(part)  # whole rows
        rate = entropy_weight * _DECIBELS_PER_BIT
        found = [_search(rows, part, spec, power, rate, signed) for rows in torch.split(segments, step)]
        scales[:, groups] = torch.cat(found).reshape(n, -1)
    return scales


def _normalised(h: torch.Tensor) -> torch.Tensor:
    """Rows scaled to a largest value of 1, which changes no choice: [G, L] → [G, L]; 1 where there is no input."""
    largest = h.amax(dim=1, keepdim=True)
    return torch.where(largest > 0, h / largest, torch.ones_like(h))


def _candidates(segments: torch.Tensor, spec: QuantSpec, signed: bool) -> torch.Tensor:
    """Scales to try, as stored: [R, L] → float32 [R, C]; 1 where a segment is all zero."""
    zero = spec.zero_point
    extreme = segments.gather(1, segments.abs().argmax(dim=1, keepdim=True)).double()
    factors = torch.from_numpy(_FACTORS)
    grids = [extreme.abs() / (zero - 1) * factors, -extreme / zero * factors]
    return _grid.stored_scales(torch.cat(grids[: 1 + signed], dim=1), spec)


def _search(
    segments: torch.Tensor, h: torch.Tensor, spec: QuantSpec, power: int, rate: float, signed: bool
) -> torch.Tensor:
    """Best scale of each segment: segments float32 [R, L], h float32 [G, L] → float32 [R]."""
    from dareq_edge.quantizers import _mse_search  # importing and loading compiled code takes a second

    candidates = _candidates(segments, spec, signed)
    # A power of two brings absmax into [0.5, 1): exact, and powers neither overflow nor vanish.
    absmax = segments.abs().amax(dim=1, keepdim=True)
    exponent = torch.frexp(absmax).exponent.masked_fill_(absmax < _grid.TINY, 0).numpy()
    choice = _mse_search.best(
        np.ldexp(segments.contiguous().numpy(), -exponent),
        np.ldexp(candidates.numpy(), -exponent),
        spec.zero_point - 1,
        importance=h.numpy(),
        squarings=power.bit_length() - 1,
        decibels_per_bit=rate,
    )
    return candidates.gather(1, torch.from_numpy(choice)[:, None])[:, 0]
