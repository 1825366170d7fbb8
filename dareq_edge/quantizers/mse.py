"""The scale with the least squared error of the weights, from a grid of clipping factors and both signs.

Minimizes sum_k (w_k - s clip(round(w_k / s), -2^(b-1), 2^(b-1) - 1))^2 over s = f absmax / (2^(b-1) - 0.5), the
common "MSE" baseline; f = 1 spreads the 2^b - 1 steps evenly over [-absmax, absmax]. A negative scale puts the longer
arm of the integer range on the positive side, as ggml's Q4_0 does with d = max / -8 (ggml-org/llama.cpp@36491e4
``ggml/src/ggml-quants.c``, quantize_row_q4_0_ref). Added to the grid, so that the result is never worse than either:
absmax / (2^(b-1) - 1), round-to-nearest's scale, and absmax / 2^(b-1), the signed maximum's. The first minimum wins;
candidates are rounded as they will be stored before their errors are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from dareq_edge.errors import SpecError
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantizers import _grid
from dareq_edge.spec import QuantSpec

_SEGMENTS = 8192  # searched at a time: bounds the memory of their candidates


@dataclass(frozen=True, slots=True)
class LeastSquares:
    """Weight-MSE-optimal scale per row or group.

    Attributes:
        smallest: Smallest factor f.
        largest: Largest factor f.
        factors: How many factors, evenly spaced; each is tried with both signs.

    Raises:
        SpecError: A value cannot work.
    """

    smallest: float = 0.4
    largest: float = 1.05
    factors: int = 66

    def __post_init__(self) -> None:
        numbers = isinstance(self.smallest, (int, float)) and isinstance(self.largest, (int, float))
        if not numbers or not 0.01 <= self.smallest <= self.largest <= 100:
            raise SpecError(
                f"smallest is {self.smallest!r} and largest {self.largest!r}; use 0.01 <= smallest <= largest <= 100"
            )
        if not isinstance(self.factors, int) or not 1 <= self.factors <= 1000:
            raise SpecError(f"factors is {self.factors!r}; use a whole number from 1 to 1000")

    def __call__(self, weight: torch.Tensor, spec: QuantSpec, name: str = "weight") -> QuantizedTensor:
        """See ``dareq_edge.quantizers.Quantizer``."""
        return _grid.quantize(weight, spec, name, partial(self._choose, spec=spec))

    def divisors(self, spec: QuantSpec) -> torch.Tensor:
        """What absmax is divided by to give the candidate scales, in the order they are tried: float64 [C]."""
        zero = spec.zero_point
        f = torch.linspace(self.smallest, self.largest, self.factors, dtype=torch.float64)
        positive = torch.cat([torch.tensor([zero - 1.0, zero], dtype=torch.float64), (zero - 0.5) / f])
        return torch.cat([positive, -positive])

    def _choose(self, segments: torch.Tensor, q_max: int, spec: QuantSpec) -> torch.Tensor:
        """Best scale per segment: float32 [R] on the segments' device; 0 for all-zero segments."""
        divisors = self.divisors(spec)
        parts = [_search(part, q_max, divisors, spec) for part in torch.split(segments.cpu(), _SEGMENTS)]
        return torch.cat(parts).to(segments.device)


def _search(segments: torch.Tensor, q_max: int, divisors: torch.Tensor, spec: QuantSpec) -> torch.Tensor:
    """Best scale of each segment: segments float32 [R, L] on the CPU, divisors float64 [C] → float32 [R]."""
    from dareq_edge.quantizers import _mse_search  # importing and loading compiled code takes a second

    absmax = segments.abs().amax(dim=1, keepdim=True)
    candidates = (absmax.double() / divisors).float()
    plain = candidates[:, :1]
    dead = plain < _grid.TINY
    candidates = torch.where(candidates.abs() < _grid.TINY, plain, candidates)  # not a scale: try nothing new there
    candidates = _grid.stored_scales(candidates, spec)
    # A power of two brings absmax into [0.5, 1): exact, and squares neither overflow nor vanish.
    exponent = torch.where(dead, 0, torch.frexp(absmax).exponent).numpy()
    x = np.ldexp(segments.numpy(), -exponent)
    choice = torch.from_numpy(_mse_search.best(x, np.ldexp(candidates.numpy(), -exponent), q_max))
    chosen = candidates.gather(1, choice[:, None])
    return torch.where(dead, torch.zeros_like(chosen), chosen)[:, 0]


QUANTIZER = LeastSquares
