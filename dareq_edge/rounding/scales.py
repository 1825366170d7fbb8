"""Scales of the published GPTQ code's symmetric quantizer (IST-DASLab/gptq@2d65066 ``quant.py``, find_params)."""

from __future__ import annotations

import torch

from dareq_edge.quantizers import _grid
from dareq_edge.spec import QuantSpec

_NORM, _GRID, _SHRINK = 2.4, 100, 0.8
_ROWS = 4096  # segments searched at a time: bounds the memory


def published_scales(weight: torch.Tensor, spec: QuantSpec, *, search: bool, name: str) -> torch.Tensor:
    """2 absmax / (2^bits - 1), or p times that with the least sum of |w - s q|^2.4, p = 1, 0.99 … 0.21.

    The candidates are rounded as they will be stored before their errors are compared.

    Args:
        weight: float32 [N, K].
        spec: Bits, group size, precision of scales.
        search: Try the factors p.
        name: For messages.

    Returns:
        float32 [N, G], as stored.

    Raises:
        CheckpointError: NaN or infinity.
    """
    _grid.check(weight, name)
    n, k = weight.shape
    size = spec.group_size or k
    parts = []
    for start in range(0, k, size):
        segments = weight[:, start : start + size].float()
        parts.append(torch.cat([_scales(rows, spec, search=search) for rows in torch.split(segments, _ROWS)]))
    return torch.stack(parts, dim=1).reshape(n, -1)


def _scales(segments: torch.Tensor, spec: QuantSpec, *, search: bool) -> torch.Tensor:
    """One scale per segment: [R, L] → [R]."""
    zero = spec.zero_point
    widest = 2 * segments.abs().amax(dim=1) / (2 * zero - 1)
    best = _grid.stored_scales(widest, spec)
    least = torch.full_like(best, torch.inf)
    for i in range(int(_SHRINK * _GRID)) if search else ():
        s = _grid.stored_scales((1 - i / _GRID) * widest, spec)
        q = (segments / s[:, None]).round_().clamp_(-zero, zero - 1).mul_(s[:, None])
        error = q.sub_(segments).abs_().pow_(_NORM).sum(dim=1)
        better = error < least
        best, least = torch.where(better, s, best), torch.where(better, error, least)
    return best
