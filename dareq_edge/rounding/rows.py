"""Rounding row after row: errors of rows already rounded are made up for by the rows that are not.

With G the second moment of the loss's derivative by the layer's outputs, an error D costs tr(G D H Dᵀ), and what
error feedback and coordinate descent do over columns with H can be done over rows with G too (Tseng et al. 2025,
arXiv 2505.22988). Rows go in strips; within a strip every row is rounded for itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from dareq_edge.rounding.codes import dequantize
from dareq_edge.rounding.damping import inverse_factor
from dareq_edge.rounding.descent import descend
from dareq_edge.spec import QuantSpec

Quantize = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Rows float32 [n, K], and what an error of each costs once the rows after it have made up for it, float32 [n] ->
signed codes int8 [n, K], scales float32 [n, G]."""

ROWS = 32
"""Of a strip: twice the width of the compiled kernels, for two threads; 16 gain 1 % of tr(G D H Dᵀ) more."""


def feedback_rows(
    weight: torch.Tensor,
    output: torch.Tensor,
    quantize: Quantize,
    spec: QuantSpec,
    *,
    damping: float,
    ordered: bool = True,
    strip: int = ROWS,
    name: str = "weight",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and scales with error feedback from row to row.

    Args:
        weight: Target W, float32 [N, K]; not changed.
        output: G, float32 [N, N].
        quantize: Rounds rows for themselves.
        spec: Bits and group size.
        damping: Fraction of the mean diagonal added to G.
        ordered: Rows go in the order of falling diag G; else as they lie.
        strip: Rows that are rounded together.
        name: For messages.

    Returns:
        Signed codes int8 [N, K] and scales float32 [N, G].

    Raises:
        CheckpointError: A G that holds NaN or infinity, or that no damping makes positive definite.
    """
    order = torch.arange(len(output))
    if ordered:
        order = torch.argsort(output.diagonal(), descending=True, stable=True)
    u = inverse_factor(output[order][:, order], damping, name)
    left, importance = weight.float()[order], u.diagonal().pow(-2)
    codes, scales = [], []
    for start in range(0, len(left), strip):
        rows = slice(start, start + strip)
        q, s = quantize(left[rows], importance[rows])
        error = torch.linalg.solve_triangular(u[rows, rows].T, left[rows] - dequantize(q, s, spec), upper=False)
        left[start + strip :].addmm_(u[rows, start + strip :].T, error, alpha=-1)
        codes.append(q)
        scales.append(s)
    back = torch.argsort(order)
    return torch.cat(codes)[back], torch.cat(scales)[back]


def descend_rows(
    weight: torch.Tensor,
    second: torch.Tensor,
    output: torch.Tensor,
    q: torch.Tensor,
    scales: torch.Tensor,
    spec: QuantSpec,
    *,
    sweeps: int,
    refit: bool,
    damping: float,
    row_damping: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Coordinate descent on tr(G D H Dᵀ): a strip of rows at a time, towards what is best given all other rows.

    Args:
        weight: Target W, float32 [N, K].
        second: H, float32 [K, K].
        output: G, float32 [N, N].
        q: Signed codes int8 [N, K] to start from; not changed.
        scales: float32 [N, G], as stored; not changed.
        spec: Bits, group size, precision of scales.
        sweeps: Rounds over all strips.
        refit: See ``descend``.
        damping: Fraction of the mean diagonal added to H.
        row_damping: Fraction of the mean diagonal added to G.

    Returns:
        Codes and scales as given; a strip changes only if that makes the damped error smaller.
    """
    h, g = second.float().clone(), output.float().clone()
    for matrix, share in ((h, damping), (g, row_damping)):
        matrix.diagonal().add_(share * matrix.diagonal().mean())
    q, scales, w = q.clone(), scales.clone(), weight.float()
    d = w - dequantize(q, scales, spec)
    for _ in range(sweeps):
        for rows in torch.split(torch.argsort(g.diagonal(), descending=True, stable=True), ROWS):
            own = g[rows][:, rows]
            others = g[rows] @ d - own @ d[rows]
            best = w[rows] + torch.linalg.solve(own, others)
            new_q, new_s = descend(best, h, q[rows], scales[rows], spec, sweeps=1, refit=refit, damping=0.0)
            new_d = w[rows] - dequantize(new_q, new_s, spec)
            if _cost(own, others, new_d, h) < _cost(own, others, d[rows], h):
                q[rows], scales[rows], d[rows] = new_q, new_s, new_d
    return q, scales


def _cost(own: torch.Tensor, others: torch.Tensor, d: torch.Tensor, h: torch.Tensor) -> float:
    """What tr(G D H Dᵀ) has of some rows: their own share, and that with all other rows."""
    return float(torch.sum((own @ d + 2 * others).mul_(d @ h), dtype=torch.float64))
