"""Tuning's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dareq_edge.errors import SpecError


@dataclass(frozen=True, slots=True)
class Tuning:
    """How scales, norms and biases are tuned.

    Rates are relative: of a scale to itself, of a norm or bias to the root mean square of its tensor.

    Attributes:
        steps: Optimizer steps; 0 changes nothing.
        batch: Windows per step.
        rate_scales: Adam's learning rate of scales; 0 leaves them alone.
        rate_norms: The same of norm gains, norm biases and the biases of linear layers.
        warmup: Steps until the full rate, after which it falls along half a cosine.
        clip: Largest norm of the gradient of all (relative) numbers together; 0 does not clip.
        seed: Order of the windows.

    Raises:
        SpecError: A value cannot work.
    """

    steps: int = 100
    batch: int = 4
    rate_scales: float = 1e-3
    rate_norms: float = 1e-3
    warmup: int = 5
    clip: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 0), ("batch", 1), ("warmup", 0), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise SpecError(f"{name} is {value!r}; use a whole number, {least} or more")
        for name in ("rate_scales", "rate_norms", "clip"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
                raise SpecError(f"{name} is {value!r}; use a number, 0 or more")

    def factor(self, step: int) -> float:
        """What both rates are multiplied by at a step, counted from 0."""
        return min(1.0, (step + 1) / max(self.warmup, 1)) * 0.5 * (1 + math.cos(math.pi * step / self.steps))
