"""GPTQ: columns are rounded in turn, and the error of each is made up for by the columns not yet rounded.

IST-DASLab/gptq@2d65066 ``gptq.py`` (GPTQ.fasterquant), Frantar et al. 2022 (arXiv 2210.17323, algorithm 1), with
static groups: all scales are given. U is the upper Cholesky factor of H⁻¹; after column j has been rounded to q,
W[:, j+1:] -= (w_j - q) / U[j, j] * U[j, j+1:].
Weights of channels without any input are rounded to nearest here; the published code makes them zero.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from dareq_edge.quantizers import _grid
from dareq_edge.rounding.codes import expand
from dareq_edge.rounding.damping import inverse_factor
from dareq_edge.spec import QuantSpec


class Factor(NamedTuple):
    """Columns int64 [K] in the order they are rounded, and U float32 [K, K] of H in that order."""

    order: torch.Tensor
    upper: torch.Tensor

    def variances(self) -> torch.Tensor:
        """What an error of each channel costs once the channels after it have made up for it: 1 / U[j, j]², [K]."""
        out = torch.empty(len(self.order))
        out[self.order] = self.upper.diagonal().pow(-2)
        return out


def factorize(second: torch.Tensor, *, act_order: bool = True, damping: float = 0.01, name: str = "weight") -> Factor:
    """What ``feedback`` needs of H; see there for the arguments and errors."""
    order = torch.arange(len(second))
    if act_order:
        order = torch.argsort(second.diagonal(), descending=True, stable=True)
    return Factor(order, inverse_factor(second[order][:, order], damping, name))


def feedback(
    weight: torch.Tensor,
    second: torch.Tensor,
    scales: torch.Tensor,
    spec: QuantSpec,
    *,
    act_order: bool = True,
    damping: float = 0.01,
    name: str = "weight",
    factor: Factor | None = None,
) -> torch.Tensor:
    """Codes by rounding with error feedback.

    Args:
        weight: Target W, floating [N, K]; not changed.
        second: H, floating [K, K]; a positive factor does not matter.
        scales: float32 [N, G], not zero.
        spec: Bits and group size.
        act_order: Columns in the order of falling diag H rather than as they lie.
        damping: See ``inverse_factor``.
        name: For messages.
        factor: From ``factorize`` with the same H, which then need not be done again.

    Returns:
        Signed codes int8 [N, K].

    Raises:
        CheckpointError: NaN or infinity, or an H that no damping makes positive definite.
    """
    from dareq_edge.rounding import _kernels  # importing and loading compiled code takes a second

    _grid.check(weight, name)
    order, upper = factor or factorize(second, act_order=act_order, damping=damping, name=name)
    target, scale = weight.detach().float()[:, order], expand(scales, spec, weight.shape[1])[:, order]
    q = torch.empty(weight.shape, dtype=torch.int8)
    q[:, order] = _kernels.feedback(target, scale, upper, spec.zero_point)
    return q
