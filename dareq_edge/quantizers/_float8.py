"""E4M3 codes as whole numbers: the float8 grid in units of its smallest step, 2^-9.

    float8 E4M3   0   2^-9   2^-8   ...   15 * 2^-9   2^-5   9 * 2^-8   ...   15 * 2^-6 * 2^-3   2^-2   ...   448
    units         0   1      2            15          16     18               120                128          229376

Every code is a whole number of units; steps are 1 below 16, then double with every power of two. onnxruntime has no
float8 MatMulNBits, so that codes run as int8 with the scale s * 2^-9, exactly, as long as a row needs none above 127
units; 120 is the greatest such code. ``fit`` makes scales large enough for that.
"""

from __future__ import annotations

import torch

UNIT = 2.0**-9
"""Value of one unit."""

LARGEST = 448.0
"""Largest finite float8 value."""

_FIT = 122.5
"""Units that no weight may exceed: 124 would round to 128, and bf16 may take 1/256 off a scale."""


def nearest_units(x: torch.Tensor) -> torch.Tensor:
    """Units rounded half to even onto the grid, clipped to 448: float32 → whole numbers, float32; no -0."""
    kept = (x * UNIT).clamp(-LARGEST, LARGEST)
    return kept.to(torch.float8_e4m3fn).float() / UNIT + 0.0


def fit(scales: torch.Tensor, largest: torch.Tensor) -> torch.Tensor:
    """Scales of one unit, raised where a row would need codes that int8 does not have.

    Args:
        scales: float64 [N].
        largest: Largest magnitude of every row, [N].

    Returns:
        float64 [N]; with them, also rounded to bf16, no code is above 120 units.
    """
    return torch.maximum(scales, largest.double() / _FIT)
