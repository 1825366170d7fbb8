"""Coordinate descent: one code at a time is set to its best value given all others, sweep after sweep.

With D = W - s q and R = D H, the error tr(D H Dᵀ) as a function of code q_j of a row is a parabola with its minimum
at q_j + R_j / (s_j H_jj); the nearest code to it is the best one, so that no step makes the error larger. As a
function of a scale it is a parabola too, with its minimum at s + (R · q) / (q H qᵀ), sums over the columns of its
group: per channel that is (w H qᵀ) / (q H qᵀ).
"""

from __future__ import annotations

import torch

from dareq_edge.quantizers import _grid
from dareq_edge.rounding.codes import dequantize, expand
from dareq_edge.spec import QuantSpec


def descend(
    weight: torch.Tensor,
    second: torch.Tensor,
    q: torch.Tensor,
    scales: torch.Tensor,
    spec: QuantSpec,
    *,
    sweeps: int = 3,
    refit: bool = True,
    damping: float = 0.01,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Better codes, and scales, than the given ones.

    Args:
        weight: Target W, floating [N, K]; not changed.
        second: H, floating [K, K], positive semidefinite.
        q: Signed codes int8 [N, K] to start from; not changed.
        scales: float32 [N, G], as stored; not changed.
        spec: Bits, group size, precision of scales.
        sweeps: At most this many rounds over all columns; ends when a round changes nothing.
        refit: Fit the scales again before each round; a scale changes where that helps after rounding it as stored.
        damping: Fraction of the mean diagonal added to H's diagonal; the error that falls is the damped one.

    Returns:
        Signed codes int8 [N, K] and scales float32 [N, G].
    """
    from dareq_edge.rounding import _kernels  # importing and loading compiled code takes a second

    w, h = weight.detach().float(), second.float()
    if damping:
        h = h.clone()
        h.diagonal().add_(damping * h.diagonal().mean())
    scales = scales.clone()
    for _ in range(sweeps):
        r = (w - dequantize(q, scales, spec)) @ h
        moved = refit and _refit(h, q, scales, r, spec)
        before, q = q, _kernels.sweep(r, q, expand(scales, spec, w.shape[1]), h, spec.zero_point)
        if torch.equal(q, before) and not moved:
            break
    return q, scales


def _refit(h: torch.Tensor, q: torch.Tensor, scales: torch.Tensor, r: torch.Tensor, spec: QuantSpec) -> bool:
    """Fit each scale in turn; changes ``scales`` and keeps R = D H; says whether any changed."""
    size = spec.group_size or q.shape[1]
    moved = False
    for g in range(scales.shape[1]):
        columns = slice(g * size, min((g + 1) * size, q.shape[1]))
        part = q[:, columns].float()
        through = part @ h[columns]
        slope = (r[:, columns] * part).sum(dim=1)
        curvature = (through[:, columns] * part).sum(dim=1).clamp_min(_grid.TINY)
        step = _grid.stored_scales(scales[:, g] + slope / curvature, spec) - scales[:, g]
        # The parabola at the stored value: rounding it may have gone past the start.
        step *= torch.isfinite(step) & (step * (step * curvature - 2 * slope) < 0)
        scales[:, g] += step
        r.addcmul_(through, step[:, None], value=-1)
        moved = moved or bool(step.any())
    return moved
