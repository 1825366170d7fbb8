"""Moments: what the inputs of a linear layer are like, gathered batch by batch."""

from __future__ import annotations

import torch


class Moments:
    """Second moment H = E[x xᵀ], mean E[x], and optionally the cross moment E[x' xᵀ] with other inputs x'.

    Sums of products are kept in float32: one addition per batch, so a relative error of about batches · 6e-8, far
    below the damping of any method that inverts H, at half the memory of float64 (K = 8192: 256 MiB).

    Args:
        features: K.
        cross: Gather the cross moment too; ``add`` then needs ``reference``.
    """

    def __init__(self, features: int, *, cross: bool = False) -> None:
        self._second = torch.zeros(features, features)
        self._cross = torch.zeros(features, features) if cross else None
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
        self._second.addmm_(scaled.T, rows)
        self._mean += scaled.sum(dim=0, dtype=torch.float64)
        self.weight += len(rows) if weights is None else float(weights.double().sum())
        assert (reference is None) == (self._cross is None), "cross moments need a reference in every batch"
        if self._cross is not None and reference is not None:
            other = reference.reshape(-1, x.shape[-1]).float()
            self._cross.addmm_(other.T, scaled)

    @property
    def second(self) -> torch.Tensor:
        """H = E[x xᵀ], float32 [K, K], new; exactly symmetric."""
        return self._second.add(self._second.T).div_(2 * max(self.weight, 1e-30))

    @property
    def cross(self) -> torch.Tensor:
        """E[x' xᵀ], float32 [K, K], new: rows belong to the reference."""
        assert self._cross is not None, "made without cross=True"
        return self._cross / max(self.weight, 1e-30)

    @property
    def mean(self) -> torch.Tensor:
        """E[x], float32 [K]."""
        return (self._mean / max(self.weight, 1e-30)).float()
