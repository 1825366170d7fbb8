"""Moments: what the inputs of a linear layer are like, gathered batch by batch."""

from __future__ import annotations

import torch

_STRIP = 384  # columns: what lies left of a strip's diagonal is not computed, and its products are still large


class Moments:
    """Second moment H = E[x xᵀ], mean E[x], and optionally the cross moment E[x' xᵀ] with other inputs x'.

    Sums of products are kept in float32: one addition per batch, so a relative error of about batches · 6e-8, far
    below the damping of any method that inverts H, at half the memory of float64 (K = 8192: 256 MiB). The cross
    moment is kept as E[(x' - x) xᵀ], what it differs from H by, so that bfloat16 inputs can be multiplied as they
    are: what rounding adds is small against the difference, and it takes a fifth of the time.

    Args:
        features: K.
        cross: Gather the cross moment too; ``add`` then needs ``reference``.
    """

    def __init__(self, features: int, *, cross: bool = False) -> None:
        self._second = torch.zeros(features, features)
        self._gap = torch.zeros(features, features) if cross else None
        self._mean = torch.zeros(features, dtype=torch.float64)
        self.weight = 0.0
        """Tokens seen, or the sum of their weights."""

    @torch.no_grad()
    def add(
        self, x: torch.Tensor, *, reference: torch.Tensor | None = None, weights: torch.Tensor | None = None
    ) -> None:
        """Take a batch.

        Args:
            x: Floating [..., K]; what the layer is given.
            reference: Floating [..., K]; x', e.g. what it would be given by the float model.
            weights: Floating [...], 0 or more per token; all 1 by default.
        """
        rows = x.reshape(-1, x.shape[-1]).float()
        scaled = rows if weights is None else rows * weights.reshape(-1, 1)
        for start in range(0, rows.shape[1], _STRIP):
            self._second[start : start + _STRIP, start:].addmm_(scaled[:, start : start + _STRIP].T, rows[:, start:])
        self._mean += scaled.sum(dim=0, dtype=torch.float64)
        self.weight += len(rows) if weights is None else float(weights.double().sum())
        assert (reference is None) == (self._gap is None), "cross moments need a reference in every batch"
        if self._gap is not None and reference is not None:
            apart = (reference - x).reshape(rows.shape)
            self._gap += apart.T @ scaled.to(apart.dtype)

    @property
    def second(self) -> torch.Tensor:
        """H = E[x xᵀ], float32 [K, K], new; exactly symmetric."""
        upper = self._second.triu().div_(max(self.weight, 1e-30))
        return upper.add_(upper.triu(1).T)

    @property
    def cross(self) -> torch.Tensor:
        """E[x' xᵀ], float32 [K, K], new: rows belong to the reference."""
        assert self._gap is not None, "made without cross=True"
        return self.second.add_(self._gap, alpha=1 / max(self.weight, 1e-30))

    @property
    def mean(self) -> torch.Tensor:
        """E[x], float32 [K]."""
        return (self._mean / max(self.weight, 1e-30)).float()
