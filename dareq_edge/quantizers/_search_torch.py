"""The DARE-Q search as vectorised torch, for accelerators: all segments of a block, one candidate at a time."""

from __future__ import annotations

import torch

from dareq_edge.quantizers._grid import TINY
from dareq_edge.quantizers._search import EPSILON, Search, scale_grid

_BLOCK = 1 << 22  # weights times rows worked on at a time


def choose(segments: torch.Tensor, search: Search) -> torch.Tensor:
    """Best scale per segment.

    Args:
        segments: float32 [R, L], any device.
        search: The problem.

    Returns:
        float32 (density) or float64 (probability) [R], on the same device; 0 for all-zero segments.
    """
    step = max(1, _BLOCK // (segments.shape[1] + search.bins))
    return torch.cat([_choose_block(block, search) for block in torch.split(segments, step)])


def _choose_block(w: torch.Tensor, search: Search) -> torch.Tensor:
    absmax = w.abs().amax(dim=1)
    dead = absmax / search.q_max < TINY
    safe = torch.where(dead, torch.ones_like(absmax), absmax)
    scales = torch.from_numpy(scale_grid(safe.cpu().numpy(), search)).to(w.device)
    best = torch.full((w.shape[0],), float("inf"), dtype=torch.float64, device=w.device)
    chosen = scales[:, 0].clone()
    for c in range(search.candidates):
        loss = _losses(w, scales[:, c : c + 1], search)
        better = loss < best
        best = torch.where(better, loss, best)
        chosen = torch.where(better, scales[:, c], chosen)
    return chosen.masked_fill(dead, 0)


def _losses(w: torch.Tensor, scale: torch.Tensor, search: Search) -> torch.Tensor:
    """float64 [R], the objective of one candidate per segment."""
    x = w.to(scale.dtype) / scale
    q = x.round_() if search.density else x.add_(0.5).floor_()
    r = w - q.clamp_(-search.q_max - 1, search.q_max) * scale
    squared = r.double().square().mean(dim=1)
    counts, widths = _histogram(r, search.bins)
    if search.density:
        h = counts / widths.double() / r.shape[1] + EPSILON
        entropy = -(h * h.log()).sum(dim=1)
    else:
        p = counts / r.shape[1]
        entropy = -(p * (p + EPSILON).log()).sum(dim=1)
    return search.lambda_entropy * entropy + search.lambda_weight * squared


def _histogram(r: torch.Tensor, bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """numpy.histogram per row, its corrections at the bin edges included (numpy 2, ``lib/_histograms_impl.py``).

    Args:
        r: Floating [R, L].
        bins: B.

    Returns:
        Counts float64 [R, B] and bin widths in r's dtype [R, B].
    """
    low, high = (bound[:, None] for bound in torch.aminmax(r, dim=1))
    flat = low == high  # numpy's rule for a range of zero width
    low, high = torch.where(flat, low - 0.5, low), torch.where(flat, high + 0.5, high)
    edges = _edges(low, high, bins)
    point = (edges[:, :-1] >= edges[:, 1:]).any(dim=1, keepdim=True)  # where numpy raises, see ``_search.entropy``
    r = torch.where(point, torch.zeros_like(r), r)
    low, high = low.masked_fill(point, -0.5), high.masked_fill(point, 0.5)
    edges = torch.where(point, _edges(low, high, bins), edges)
    index = ((r - low) / (high - low) * bins).long().clamp_(max=bins - 1)
    index -= (r < edges.gather(1, index)).long()
    index += ((r >= edges.gather(1, index + 1)) & (index != bins - 1)).long()
    counts = torch.zeros(r.shape[0], bins, dtype=torch.float64, device=r.device)
    counts.scatter_add_(1, index, torch.ones((), dtype=torch.float64, device=r.device).expand_as(index))
    return counts, edges.diff(dim=1)


def _edges(low: torch.Tensor, high: torch.Tensor, bins: int) -> torch.Tensor:
    """numpy.linspace(low, high, bins + 1) per row, [R, B + 1]."""
    index = torch.arange(bins + 1, dtype=low.dtype, device=low.device)
    edges = index * ((high - low) / bins) + low
    edges[:, -1:] = high
    return edges
