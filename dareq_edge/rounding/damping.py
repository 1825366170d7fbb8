"""The factor of the inverse second moment that error feedback needs, for matrices that are singular too."""

from __future__ import annotations

import torch

from dareq_edge.errors import CheckpointError

LIMIT = 1.0
"""Most damping that is tried, as a fraction of the mean diagonal; at 1, H hardly counts any more."""


def inverse_factor(second: torch.Tensor, damping: float, name: str) -> torch.Tensor:
    """U, upper triangular, with Uᵀ U = (H + damping mean(diag H) I)⁻¹, the Cholesky factor GPTQ works with.

    With J the exchange matrix and J H J = L Lᵀ, U is the inverse of J L J (upper triangular too): one decomposition
    and one triangular solve in float64, where the published code decomposes, inverts and decomposes again. Damping is
    raised tenfold, up to ``LIMIT``, as long as the matrix is not positive definite.

    Args:
        second: H, floating [K, K], symmetric; not changed. Channels without any input (zero diagonal) are given the
            mean of the others, so that they neither send nor receive errors.
        damping: Fraction of the mean diagonal, 0 or more.
        name: For the message.

    Returns:
        float32 [K, K].

    Raises:
        CheckpointError: NaN or infinity, or not positive definite at the limit.
    """
    h = second.flip(0, 1).double()
    diagonal = h.diagonal()
    if not bool(torch.isfinite(h).all()):
        raise CheckpointError(
            f"the inputs of {name} hold NaN or infinity, or are too large for float32; repair the checkpoint or skip "
            "this layer"
        )
    live = diagonal[diagonal > 0]
    mean, added = float(live.mean()) if len(live) else 1.0, 0.0
    diagonal[diagonal <= 0] = mean
    while True:
        diagonal += (damping - added) * mean
        factor, failed = torch.linalg.cholesky_ex(h)
        if not failed:
            break
        added, damping = damping, max(10 * damping, 1e-4)
        if damping > LIMIT:
            raise CheckpointError(
                f"the second moment of the inputs of {name} is not positive definite even with damping {added:g}; "
                "give more or other calibration text, or skip this layer"
            )
    del h, diagonal, live  # K = 8192: 512 MiB each of these and of what follows
    upper = factor.flip(0, 1)
    del factor
    inverse: torch.Tensor = torch.linalg.solve_triangular(upper, torch.eye(len(upper), dtype=upper.dtype), upper=True)
    return inverse.float().contiguous()
