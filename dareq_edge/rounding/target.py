"""The asymmetric target: weights that make up for the errors the layer's inputs already have.

A layer is given x by the quantized layers before it where the float model gives x'. The weights T with the least
E|W x' - T x|² are W C H⁻¹, C = E[x' xᵀ], H = E[x xᵀ], as in GPTAQ (Li et al. 2025, arXiv 2504.02692) and Qronos
(Zhang et al. 2025, arXiv 2505.11695); rounding then works towards T instead of W.
"""

from __future__ import annotations

import torch

from dareq_edge.errors import CheckpointError


def corrected_target(
    weight: torch.Tensor,
    second: torch.Tensor,
    cross: torch.Tensor,
    *,
    mix: float = 1.0,
    damping: float = 0.03,
    name: str = "weight",
) -> torch.Tensor:
    """T = W + mix (W (C + a I) (H + a I)⁻¹ - W), a = damping mean(diag H).

    Args:
        weight: W, floating [N, K].
        second: H, floating [K, K].
        cross: C, floating [K, K]: rows belong to the float model's inputs.
        mix: How far to go from W to the corrected weights.
        damping: Keeps directions that inputs hardly have as they are in W.
        name: For the message.

    Returns:
        float32 [N, K].

    Raises:
        CheckpointError: H + a I is not positive definite, or holds NaN or infinity.
    """
    h, w = second.double(), weight.detach().double()
    if not bool(h.any()):  # no input at all: nothing to make up for
        return w.float()
    a = damping * h.diagonal().mean()
    h.diagonal().add_(a)
    right = w @ cross.double() + a * w
    factor, failed = torch.linalg.cholesky_ex(h)
    del h
    if failed or not bool(torch.isfinite(factor).all()):
        raise CheckpointError(
            f"the second moment of the inputs of {name} is singular or not finite; raise correction_damping, switch "
            "correction off, or skip this layer"
        )
    target = torch.cholesky_solve(right.T, factor).T
    return torch.lerp(w, target, mix).float()
