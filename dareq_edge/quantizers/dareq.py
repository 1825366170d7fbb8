"""DARE-Q: choose each row's scale from a grid by squared error plus the entropy of the residual's histogram.

Paper: Sakovich, Aksenov, Pleshakova, Gataullin, "AI Model Compression Methods: A Distribution-Aware Residual
Entropy Quantization", Computers, Materials & Continua 2026, doi 10.32604/cmc.2026.079522. Published code:
NekkittAY/DAREQuant-Quantization@1425e1a ``dare_quant.py``. They differ, so both are here, by name:

* ``entropy="density"``, the published code: float32, half-to-even rounding, a histogram of *densities* h (probability
  over bin width) plus 1e-8, H = -sum h ln h. In practice it always picks absmax / q_max.
* ``entropy="probability"``, the paper (Eqs. 3-12, Algorithm 1): float64, floor(x + 0.5), probabilities p,
  H = -sum p ln(p + 1e-8). It picks much coarser scales.

Both minimize lambda_weight * mean(residual^2) + lambda_entropy * H over linearly spaced scales in
[absmax / q_max, absmax]; the first minimum wins. Where we go beyond the sources: a residual without a resolvable
range (narrower than ``bins`` floating-point steps, where numpy raises) counts as a single point, range +-0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from dareq_edge.errors import SpecError
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantizers import _grid
from dareq_edge.quantizers._search import Search
from dareq_edge.quantizers._search_torch import choose
from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True)
class DareQ:
    """DARE-Q per row or group.

    Attributes:
        entropy: "density" or "probability", see above.
        bins: Histogram bins B.
        lambda_weight: Weight of the mean squared error.
        lambda_entropy: Weight of the entropy.
        candidates: Scales tried.

    Raises:
        SpecError: A value cannot work.
    """

    entropy: Literal["density", "probability"] = "density"
    bins: int = 128
    lambda_weight: float = 1.0
    lambda_entropy: float = 0.1
    candidates: int = 20

    def __post_init__(self) -> None:
        if self.entropy not in ("density", "probability"):
            raise SpecError(f"entropy is {self.entropy!r}; use 'density' or 'probability'")
        if not isinstance(self.bins, int) or not 1 <= self.bins <= 4096:
            raise SpecError(f"bins is {self.bins!r}; use a whole number from 1 to 4096")
        if not isinstance(self.candidates, int) or not 1 <= self.candidates <= 1000:
            raise SpecError(f"candidates is {self.candidates!r}; use a whole number from 1 to 1000")
        for label, value in (("lambda_weight", self.lambda_weight), ("lambda_entropy", self.lambda_entropy)):
            if not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise SpecError(f"{label} is {value!r}; use a finite number, 0 or more")

    def __call__(self, weight: torch.Tensor, spec: QuantSpec, name: str = "weight") -> QuantizedTensor:
        """See ``dareq_edge.quantizers.Quantizer``."""
        rounding = _grid.round_half_even if self.entropy == "density" else _grid.round_half_up
        return _grid.quantize(weight, spec, name, self._choose, rounding)

    def _choose(self, segments: torch.Tensor, q_max: int) -> torch.Tensor:
        """Best scale per segment: float32 or float64 [R]; 0 for all-zero segments."""
        search = Search(
            self.entropy == "density", q_max, self.bins, self.lambda_weight, self.lambda_entropy, self.candidates
        )
        if segments.device.type != "cpu":
            return choose(segments, search)
        from dareq_edge.quantizers import _search_numba  # importing and loading compiled code takes a second

        return _search_numba.choose(segments, search)


QUANTIZER = DareQ
