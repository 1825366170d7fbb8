"""EntQuant's scales as published: L-BFGS on log2 s over a whole matrix, rounding passed straight through.

arXiv 2601.22787, merantix-momentum/entquant@5eb44e3 ``entquant/quantization/optimizer.py``: the objective is
|s q - W|_1 / (|W|_1 + 1e-6) + lambda R, R = mean|q| / 128 for int8 and 4 mean|q| for float8; the start is
absmax / 127 or absmax / 448. Norms are torch's own, because where the solver stops before it has converged (3.9 is
such a lambda) the last bits of the loss decide where. Different here: rows of zeros are left out, for which the
published code has no answer, and scales are not rounded in log2 to the model's dtype.
"""

from __future__ import annotations

from typing import Any

import torch

from dareq_edge.errors import CheckpointError
from dareq_edge.quantizers._float8 import LARGEST
from dareq_edge.quantizers._grid import TINY

_RETRIES = 20
_SLOW = 30.0  # lambda from which the published settings halve the learning rate twice


class _Int8(torch.autograd.Function):
    """Rounded and clipped to int8."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.round().clamp(-128, 127)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class _Float8(torch.autograd.Function):
    """Clipped to E4M3's range and cast to it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


def optimize(weight: torch.Tensor, lam: float, name: str, *, float8: bool) -> torch.Tensor:
    """The scale of every row.

    Args:
        weight: Floating [N, K] on any device.
        lam: lambda; the learning rate is 1 below 30 and 0.25 from there on, as published.
        name: For the message.
        float8: Whether codes are float8; scales are then those of the float8 value 1.

    Returns:
        float64 [N]; 0 for rows of zeros.

    Raises:
        CheckpointError: No learning rate gives a loss that is a number.
    """
    w = weight.detach().float()
    start = w.abs().amax(dim=1, keepdim=True) / (LARGEST if float8 else 127)
    live = (start >= TINY)[:, 0]
    scales = torch.zeros(len(w), dtype=torch.float64, device=w.device)
    if not bool(live.any()):
        return scales
    rate = 1.0 if lam < _SLOW else 0.25
    for _ in range(_RETRIES):
        found = _solve(w[live], start[live], lam, rate, len(w) / int(live.sum()), float8=float8)
        if bool(torch.isfinite(found).all()):
            scales[live] = found.double()[:, 0]
            return scales
        rate /= 2
    raise CheckpointError(f"{name}: L-BFGS finds no scales; use scale=closed_form")


def _solve(
    w: torch.Tensor, start: torch.Tensor, lam: float, rate: float, share: float, *, float8: bool
) -> torch.Tensor:
    """One run: float32 [R, 1]; NaN if a loss was. ``share``: all rows over these."""
    log_scale = torch.nn.Parameter(torch.log2(start))
    solver = torch.optim.LBFGS([log_scale], lr=rate, max_iter=500, history_size=100, line_search_fn="strong_wolfe")
    size = torch.linalg.vector_norm(w, ord=1) + 1e-6
    code, weight_of_code = (_Float8, 4.0) if float8 else (_Int8, 1 / 128)

    def loss() -> torch.Tensor:
        solver.zero_grad()
        q: torch.Tensor = code.apply(w.ldexp(-log_scale))  # type: ignore[no-untyped-call]
        error = torch.linalg.vector_norm(q * torch.ones_like(log_scale).ldexp(log_scale) - w, ord=1) / size
        found: torch.Tensor = error + lam / share * (q.abs() * weight_of_code).mean()
        found.backward()  # type: ignore[no-untyped-call]
        if bool(found.isnan()):
            raise FloatingPointError
        return found

    try:
        with torch.enable_grad():
            solver.step(loss)  # type: ignore[no-untyped-call]
    except FloatingPointError:
        return torch.full_like(start, torch.nan)
    return torch.exp2(log_scale.detach())
