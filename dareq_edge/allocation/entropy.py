"""Entropy of weights as EWQ defines it (arXiv 2503.04704v2): H = -sum p ln(p + eps) with p = softmax of all of W.

What it measures, with N weights of variance v whose tails are no heavier than a normal distribution's:

    eps = 0     H = ln N - v/2
    eps > 0     H = -ln eps - exp(v) / (eps N)    where N eps is large

In general it is the sum of p^2 that lowers H, i.e. exp(2 w) of the largest weights: one of 9 among 900,000 of
standard deviation 0.2 outweighs all others together.

Blocks of one model differ in the seventh digit and less, where float32 sums say nothing. So: float64 throughout, the
largest weight taken out of every exponent, and ln(p + eps) as ln eps + log1p(p / eps), which keeps p where eps would
swallow it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from dareq_edge.allocation.facts import Facts
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.progress import Progress

EPSILON = 0.01
"""Published epsilon; where it stands in the formula is unverified."""

_PIECE = 1 << 16  # weights in float64 at a time, 512 KiB: two arrays of that size stay in a core's cache


def softmax_entropy(weight: torch.Tensor, epsilon: float = EPSILON, name: str = "weight") -> float:
    """H of one matrix, nats.

    Args:
        weight: Floating point, any shape, on the CPU; not changed, and read in pieces.
        epsilon: Added to every probability inside the logarithm; 0 gives Shannon's entropy.
        name: The tensor's name, for the message.

    Raises:
        SpecError: ``epsilon`` is negative or no number.
        CheckpointError: The weight is empty, not floating point, or holds NaN or infinity.
    """
    check_epsilon(epsilon)
    if not weight.is_floating_point() or not weight.numel():
        raise CheckpointError(
            f"{name} is {weight.dtype} {list(weight.shape)}; entropy is that of floating-point weights"
        )
    flat = weight.detach().reshape(-1)
    low, high = (float(v) for v in torch.aminmax(flat))
    if not math.isfinite(low) or not math.isfinite(high):
        raise CheckpointError(f"{name} holds NaN or infinity; the checkpoint is damaged, get it again")
    total, mean = _exponentials(flat, high)
    if epsilon == 0:
        return math.log(total) - mean  # - sum p (w - high - ln total)
    return -math.log(epsilon) - _above(flat, high, total, epsilon)


def check_epsilon(epsilon: object) -> None:
    """Refuse what cannot be an epsilon.

    Raises:
        SpecError: It is negative or no number.
    """
    if not isinstance(epsilon, (int, float)) or isinstance(epsilon, bool) or not 0 <= epsilon <= 1:
        raise SpecError(f"epsilon is {epsilon!r}; use a number from 0 (Shannon's entropy) to 1, 0.01 as published")


def block_entropies(
    checkpoint: Checkpoint,
    facts: Facts,
    *,
    epsilon: float = EPSILON,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
) -> tuple[float, ...]:
    """Entropy of every decoder block: the mean over its matrices, weighted by their sizes.

    One tensor at a time is in memory, and of it one piece in float64. Biases and norms do not count (unverified).

    Args:
        checkpoint: A float checkpoint.
        facts: Of the same model.
        epsilon: See ``softmax_entropy``.
        progress: Told after every block.
        trust_remote_code: Let transformers run code that comes with the model.

    Returns:
        Nats, one per block.

    Raises:
        CheckpointError: A tensor is missing, has another shape, or holds NaN or infinity.
    """
    check_epsilon(epsilon)
    names = checkpoint.bind(checkpoint.empty_model(trust_remote_code=trust_remote_code))
    found = []
    for i in range(facts.blocks):
        matrices = facts.of_block(i)
        stored = [_stored(names, m.name, checkpoint) for m in matrices]
        values = [softmax_entropy(checkpoint.tensor(name), epsilon, name) for name in stored]
        found.append(weighted_mean(values, [m.size for m in matrices]))
        if progress is not None:
            progress("entropy of blocks", i + 1, facts.blocks)
    return tuple(found)


def _stored(names: Mapping[str, str], module: str, checkpoint: Checkpoint) -> str:
    if f"{module}.weight" not in names:  # shared between blocks, or one that transformers lets a checkpoint lack
        raise CheckpointError(
            f"{checkpoint.folder} has no weight of its own for {module}; it has no entropy by block"
        )
    return names[f"{module}.weight"]


def weighted_mean(values: Sequence[float], weights: Sequence[int]) -> float:
    """Sum of value times weight over the sum of weights, rounded once at the end of either sum."""
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def _exponentials(flat: torch.Tensor, high: float) -> tuple[float, float]:
    """(sum of exp(w - high), mean of w - high under p)."""
    totals, products = [], []
    for piece in torch.split(flat, _PIECE):
        x = piece.double() - high
        e = x.exp()
        totals.append(_sum(e))
        products.append(_sum(e.mul_(x)))
    total = math.fsum(totals)
    return total, math.fsum(products) / total


def _above(flat: torch.Tensor, high: float, total: float, epsilon: float) -> float:
    """Sum of p log1p(p / epsilon): how far H lies below -ln epsilon."""
    sums = []
    for piece in torch.split(flat, _PIECE):
        p = (piece.double() - high).exp_().div_(total)
        sums.append(_sum((p / epsilon).log1p_().mul_(p)))
    return math.fsum(sums)


def _sum(x: torch.Tensor) -> float:
    # numpy adds pairwise on one thread: the same sum whatever the number of threads
    return float(np.add.reduce(x.numpy()))
