"""DARE-Q written down as literally as possible, for tests: one row, one candidate, one numpy.histogram at a time."""

from __future__ import annotations

import numpy as np


def literal_losses(w, *, entropy, q_max=7, bins=128, lambda_weight=1.0, lambda_entropy=0.1, candidates=20):
    """Candidate scales and their losses for one float32 row."""
    dtype = np.float32 if entropy == "density" else np.float64
    top = dtype(np.abs(w).max())
    scales = np.linspace(top / dtype(q_max), top, candidates, dtype=dtype)
    losses = []
    for s in scales:
        x = w.astype(dtype) / s
        q = np.clip(np.round(x) if entropy == "density" else np.floor(x + 0.5), -q_max - 1, q_max).astype(dtype)
        r = w.astype(dtype) - q * s
        if entropy == "density":
            h = np.histogram(r, bins=bins, density=True)[0] + 1e-8
            H = -np.sum(h * np.log(h))
        else:
            counts = np.histogram(r, bins=bins)[0]
            p = counts / counts.sum()
            H = -np.sum(p * np.log(p + 1e-8))
        losses.append(lambda_weight * np.mean(r**2) + lambda_entropy * H)
    return scales, np.array(losses, dtype=np.float64)


def literal_scale(w, **options):
    scales, losses = literal_losses(w, **options)
    best, chosen = np.inf, scales[0]
    for s, loss in zip(scales, losses, strict=True):
        if loss < best:
            best, chosen = loss, s
    return chosen
