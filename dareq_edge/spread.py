"""How values are spread: the entropy of DARE-Q's paper (Eqs. 6-9), from pieces that are not in memory together."""

from __future__ import annotations

import math

import torch

from dareq_edge.reporting.statistics import BINS


class Spread:
    """Sum of squares, extremes, and then counts in equal bins between them: every piece goes through both methods."""

    def __init__(self) -> None:
        self.squares, self._low, self._high = 0.0, math.inf, -math.inf
        self._counts = torch.zeros(BINS, dtype=torch.float64)

    def widen(self, x: torch.Tensor) -> None:
        """First every piece goes through this.

        Args:
            x: float32 or float64, any shape, not empty.
        """
        self.squares += float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2
        low, high = (float(v) for v in x.aminmax())
        self._low, self._high = min(self._low, low), max(self._high, high)

    def count(self, x: torch.Tensor) -> None:
        """Then every piece again through this; nothing is counted where the range is too narrow to be divided."""
        width = (self._high - self._low) / BINS
        if self._low + width > self._low and self._high - width < self._high:
            self._counts += torch.histc(x, BINS, self._low, self._high).double()

    @property
    def entropy(self) -> float:
        """−Σ p ln p, nats; 0 where all values are equal."""
        total = self._counts.sum()
        return float(torch.special.entr(self._counts / total).sum()) if total else 0.0
