"""The closed form's refinement in torch, for weights not on the CPU; ``_entquant_numba`` does the same there.

For the scale s of one row and x = w / s with codes q, three sums over the row, in units of s:

* error E: |x - q| of weights that are not clipped,
* live A: |x| of weights that are not clipped and whose code is not 0,
* edge C: |q| of clipped weights.

The published objective |s q - w|_1 / |W|_1 + lambda mean|q| / 128 has, with rounding passed straight through, the
derivative E - C - (p / s) A by log s, times a constant, where p = lambda / 128 * mean|W|: rows meet only in p. At
high rates E is K / 4 and A is K mean|x|, which gives the closed form; from there s is multiplied by the square root
of ((p / s) A + C) / E, inside a bracket. The published gradient also passes through clipping, which would count a
clipped weight as one that a smaller scale serves better; here it counts as what it is.
"""

from __future__ import annotations

import torch

from dareq_edge.quantizers._float8 import nearest_units
from dareq_edge.quantizers._grid import TINY

STEPS = 12
"""Most evaluations of a row; most take 3 to 5 to come within ``CLOSE``."""

CLOSE = 1e-3
"""Relative residual of the equation at which a row is done: a quarter of what bf16 resolves of a scale."""

LARGEST = 2.0
"""Most that one step may change a scale."""


def refine(w: torch.Tensor, start: torch.Tensor, pull: float, *, float8: bool) -> torch.Tensor:
    """Solve every row's equation.

    Args:
        w: float32 [N, K].
        start: Scales to begin with, float64 [N], 0 or at least TINY; rows with 0 stay 0.
        pull: lambda / 128 times the mean magnitude of the matrix's weights.
        float8: Whether codes lie on the E4M3 grid.

    Returns:
        float64 [N].
    """
    scale, done = start.clone(), start <= 0
    low, high = torch.zeros_like(scale), torch.full_like(scale, torch.inf)
    for _ in range(STEPS):
        error, live, edge = _sums(w, scale, float8=float8)
        ratio = torch.where(error > 0, (pull / scale * live + edge) / error, LARGEST**2)
        done = done | ((ratio - 1).abs() < CLOSE)
        if bool(done.all()):
            break
        low = torch.where((ratio > 1) & ~done, scale, low)
        high = torch.where((ratio <= 1) & ~done, scale, high)
        step = scale * ratio.clamp(LARGEST**-2, LARGEST**2).sqrt()
        step = torch.where((step > low) & (step < high), step, (low * high).sqrt()).clamp_min(TINY)
        scale = torch.where(done, scale, step)
    return scale


def _sums(w: torch.Tensor, scale: torch.Tensor, *, float8: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Error, live and edge, float64 [N] each."""
    x = w / scale.clamp_min(TINY).float()[:, None]
    q = nearest_units(x) if float8 else x.round()
    kept = q if float8 else q.clamp(-128, 127)
    clipped = kept != q
    error = (x - q).abs().masked_fill(clipped, 0)
    live = x.abs().masked_fill(clipped | (q == 0), 0)
    edge = kept.abs().masked_fill(~clipped, 0)
    return error.double().sum(1), live.double().sum(1), edge.double().sum(1)
