"""EntQuant's scales without a solver: the closed form of every row, and a short refinement.

With E|w - s q| = s / 4 and E|q| = E|w| / s, as at high rates, the least of s_i / (4 m) + lambda / 128 * m_i / s_i,
m_i = mean|w_i| and m = mean|W|, is at s_i = sqrt(lambda / 32 * m_i * m). ``_entquant_torch`` has what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from dareq_edge.quantizers import _entquant_torch
from dareq_edge.quantizers._grid import TINY, row_blocks


@dataclass(frozen=True, slots=True, eq=False)
class Magnitudes:
    """What a matrix's rows are like.

    Attributes:
        mean: mean|w_i|, float64 [N].
        whole: mean|W|.
    """

    mean: torch.Tensor
    whole: float

    @classmethod
    def of(cls, weight: torch.Tensor, whole: float | None = None) -> Magnitudes:
        """Measure a matrix.

        Args:
            weight: Floating [N, K] on any device.
            whole: mean|W|, where ``weight`` is only a sample of W's rows.
        """
        mean = torch.cat([_mean_magnitudes(block) for _, block in _blocks(weight)])
        return cls(mean, float(mean.mean()) if whole is None else whole)


def largest_magnitudes(weight: torch.Tensor) -> torch.Tensor:
    """max|w_i| of every row: floating [N, K] → float32 [N]."""
    return torch.cat([block.abs().amax(dim=1) for _, block in _blocks(weight)])


def closed_form(weight: torch.Tensor, sizes: Magnitudes, lam: float, *, float8: bool) -> torch.Tensor:
    """The scale of every row.

    Args:
        weight: Floating [N, K] on any device.
        sizes: Of its rows.
        lam: lambda.
        float8: Whether codes lie on the E4M3 grid; scales are then those of a unit, 2^-9.

    Returns:
        float64 [N]; 0 for rows without a weight that could be divided.
    """
    start = torch.sqrt(lam / 32 * sizes.whole * sizes.mean)
    start = torch.where(start < TINY, 0, start)
    pull = lam / 128 * sizes.whole
    found = []
    for rows, block in _blocks(weight):
        if block.device.type == "cpu":
            from dareq_edge.quantizers import _entquant_numba  # importing and loading compiled code takes a second

            solved = _entquant_numba.refine(block.numpy(), start[rows].numpy(), pull, float8=float8)
            found.append(torch.from_numpy(solved))
        else:
            found.append(_entquant_torch.refine(block, start[rows], pull, float8=float8))
    return torch.cat(found)


def _mean_magnitudes(block: torch.Tensor) -> torch.Tensor:
    """Of every row, float64 [R]."""
    if block.device.type == "cpu":
        from dareq_edge.quantizers import _entquant_numba

        return torch.from_numpy(_entquant_numba.mean_magnitudes(block.numpy()))
    return block.abs().mean(dim=1, dtype=torch.float64)


def _blocks(weight: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Rows and their weights, float32 and contiguous, a bounded number at a time."""
    n, k = weight.shape
    return ((rows, weight.detach()[rows].float().contiguous()) for rows in row_blocks(n, k))
