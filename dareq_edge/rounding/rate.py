"""Rounding for an entropy coder: what counts is the sum of error and bits, and a step may be as fine as it likes.

With d_j = 1 / U[j, j]² what an error in column j costs once later columns have made up for it (``feedback.Factor``),
and g_i the same of row i in nats per token (``rows``), a row with step s_i costs g_i s_i² sum_j d_j / 24 nats at high
rate, errors being uniform; half a step costs a bit more per weight. At a price of ``slope`` nats per bit the sum is
least at

    s_i² = 12 slope / (ln 2 g_i mean_j d_j)

for every row of every layer: one slope over the whole model is what makes no bit worth more elsewhere (reverse
water-filling). Codes are then the nearest, or one nearer to zero where that saves more bits than it costs.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from dareq_edge.quantizers._rate import entropy_bits
from dareq_edge.rounding.feedback import Factor

CODES = 256
"""Codes -128 to 127; -128 is not used."""
_UNSEEN = 0.1  # occurrences: how often a code is taken to occur that has not been seen


def step_sizes(importance: torch.Tensor, factor: Factor, slope: float) -> torch.Tensor:
    """The steps with the least sum of error and bits: see the module.

    Args:
        importance: g, nats per unit of squared output error, float32 [N], positive.
        factor: Of the inputs' second moment.
        slope: Nats per bit.

    Returns:
        float32 [N].
    """
    mean = float(factor.variances().double().mean())
    return (12 * slope / (math.log(2) * importance.double() * mean)).sqrt().float()


def code_lengths(q: torch.Tensor) -> torch.Tensor:
    """Bits that an ideal coder spends on each code, having seen these: int8 → float32 [256], of -128 to 127."""
    counts = _counts(q) + _UNSEEN
    return (counts.sum() / counts).log2().float()


def entropy(q: torch.Tensor) -> float:
    """Empirical entropy of signed codes int8, bits per code."""
    return entropy_bits(q.contiguous().numpy().view(np.uint8))


def rate_feedback(
    weight: torch.Tensor,
    scales: torch.Tensor,
    importance: torch.Tensor,
    factor: Factor,
    lengths: torch.Tensor,
    slope: float,
) -> torch.Tensor:
    """Codes by rounding with error feedback, bits counted.

    Args:
        weight: Target W, float32 [N, K]; not changed.
        scales: float32 [N, 1], positive.
        importance: g, float32 [N].
        factor: Of the inputs' second moment.
        lengths: From ``code_lengths``; zeros round to nearest.
        slope: Nats per bit.

    Returns:
        Signed codes int8 [N, K].
    """
    from dareq_edge.rounding import _rate_kernels  # importing and loading compiled code takes a second

    worth = (importance.double() / (2 * slope)).float()
    q = _rate_kernels.feedback(weight[:, factor.order], scales[:, 0], factor.upper, worth, lengths)
    out = torch.empty_like(q)
    out[:, factor.order] = q
    return out


def without_feedback(second: torch.Tensor) -> Factor:
    """A factor with which every column is rounded for itself: H without what lies off its diagonal."""
    diagonal = second.diagonal().float()
    live = diagonal[diagonal > 0]
    filled = torch.where(diagonal > 0, diagonal, live.mean() if len(live) else torch.ones(()))
    return Factor(torch.arange(len(diagonal)), torch.diag(filled.rsqrt()))


def relative_importance(weight: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """What errors cost where nothing is known of what outputs are for: as EntQuant's scales have it.

    Its step for a row is proportional to sqrt(mean|w_i| mean|W|), which is the step here when g is as below, whatever
    the inputs' size.

    Args:
        weight: W, float32 [N, K], rows that share their inputs.
        second: H, float32 [K, K].

    Returns:
        g, float32 [N].
    """
    size = weight.abs().mean(dim=1, dtype=torch.float64)
    whole, inputs = float(size.mean()), float(second.diagonal().double().mean())
    if whole == 0 or inputs == 0:
        return torch.ones(len(weight))
    return (1 / (size.clamp(min=1e-3 * whole) * whole * inputs)).float()


def _counts(q: torch.Tensor) -> torch.Tensor:
    return torch.bincount(q.flatten().to(torch.int64) + CODES // 2, minlength=CODES).double()
