"""HQQ, half-quadratic quantization: asymmetric codes whose zero point is optimized for an l_p norm, the scale fixed.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023). Published code:
mobiusml/hqq@74bbe01 ``hqq/core/quantize.py`` (Quantizer.quantize, hqq_base_quant_config) and @b21fe87
``hqq/core/optimize.py`` (optimize_weights_proximal_legacy, the default solver), here in its float32 form:

* scale = min((2^b - 1) / (max - min), 2e4), zero = -min scale, rounded for 4 bits only; then up to 20 times
  q = clip(round(w scale + zero)), e = shrink(w - (q - zero) / scale), zero = mean(q - (w - e) scale), beta *= kappa;
* shrink(x) = sign(x) max(|x| - |x|^(p-1) / beta, 0);
* it stops as soon as the mean |w - w_q| of the whole matrix has not fallen, *keeping the zero point just computed*;
* scale and zero point are stored in float16 (``compute_dtype``).

It is not scale-invariant: beta is absolute, so for weights well below 0.1 the shrunk error e is 0 and the iteration
is that of a plain mean. Where we differ: groups run along K (``axis=1``, what transformers and every int4 kernel
use; the published default is 0), arithmetic after the rounding to float16 is float32, and what float16 cannot hold is
an error instead of infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from dareq_edge.dequantized import refuse_scale_dtype
from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.quantizers._grid import check
from dareq_edge.spec import QuantSpec

Stored = Literal["float16", "float32"]
_PACKED = {2: 2.0, 3: 3.2, 4: 4.0, 5: 8.0, 6: 8.0, 8: 8.0}  # 3 bits: ten codes per int32; 5 and 6 are not packed
_LARGEST = 2e4  # largest inverse scale


@dataclass(frozen=True, slots=True)
class HalfQuadratic:
    """HQQ per row or group.

    Attributes:
        norm: p of the l_p norm, in (0, 1].
        beta: Initial weight of the quadratic term.
        kappa: What beta is multiplied by after every iteration.
        iterations: At most this many; 0 is plain asymmetric rounding.
        axis: 1 for groups of consecutive weights along K, 0 for the published default, weights N*K / group apart.
        stored: Precision of the stored scales and zero points.

    Raises:
        SpecError: A value cannot work.
    """

    norm: float = 0.7
    beta: float = 10.0
    kappa: float = 1.01
    iterations: int = 20
    axis: int = 1
    stored: Stored = "float16"

    def __post_init__(self) -> None:
        for label, value, low, high in (
            ("norm", self.norm, 0, 1),
            ("beta", self.beta, 0, 1e9),
            ("kappa", self.kappa, 0, 10),
        ):
            if not isinstance(value, (int, float)) or not low < value <= high:
                raise SpecError(f"{label} is {value!r}; use a number above {low}, at most {high:g}")
        if not isinstance(self.iterations, int) or not 0 <= self.iterations <= 10_000:
            raise SpecError(f"iterations is {self.iterations!r}; use a whole number from 0 to 10000")
        if self.axis not in (0, 1) or self.stored not in get_args(Stored):
            raise SpecError(f"axis is {self.axis!r}, stored {self.stored!r}; use 0 or 1, and 'float16' or 'float32'")

    def __call__(self, weight: torch.Tensor, spec: QuantSpec, name: str = "weight") -> torch.Tensor:
        """See ``dareq_edge.dequantized.Dequantizer``."""
        self._check_spec(spec)
        check(weight, name)
        groups = self._groups(weight.detach().float(), spec, name)
        q_max = 2**spec.bits - 1
        low, high = (bound[:, None] for bound in torch.aminmax(groups, dim=1))
        scale = (q_max / (high - low)).clamp(max=_LARGEST)
        zero = -low * scale
        zero = self._optimize(groups, scale, zero.round() if spec.bits == 4 else zero, q_max)
        q = torch.round(groups * scale + zero).clamp_(0, q_max)
        step, zero = self._store(1.0 / scale, name), self._store(zero, name)
        out = (q - zero) * step
        return (out.T if self.axis == 0 else out).reshape(weight.shape)

    def bits_per_weight(self, k: int, spec: QuantSpec) -> float:
        """See ``dareq_edge.dequantized.Dequantizer``: codes, and one scale and one zero point per group."""
        self._check_spec(spec)
        width = 16 if self.stored == "float16" else 32
        return _PACKED[spec.bits] + 2 * width / (spec.group_size or k)

    def _check_spec(self, spec: QuantSpec) -> None:
        refuse_scale_dtype("hqq", spec)
        if spec.bits not in _PACKED:
            raise SpecError(f"hqq has no {spec.bits} bits; use 2, 3, 4, 5, 6 or 8")
        if spec.group_size is None and self.axis == 0:
            raise SpecError("hqq with axis 0 has no per-channel form that fits a row; use axis 1 or a group size")

    def _groups(self, w: torch.Tensor, spec: QuantSpec, name: str) -> torch.Tensor:
        """One group per row, float32 [M, group size], from w [N, K]."""
        size = spec.group_size or w.shape[1]
        if w.numel() % size:
            raise SpecError(
                f"{name} has {w.numel()} weights, not a multiple of {size}; use another group size for hqq"
            )
        return w.reshape(-1, size) if self.axis == 1 else w.reshape(size, -1).T

    def _optimize(self, w: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, q_max: int) -> torch.Tensor:
        """The half-quadratic solver: w [M, L], scale and zero [M, 1] → zero [M, 1]."""
        beta, least = self.beta, 1e4
        for _ in range(self.iterations):
            q = torch.round(w * scale + zero).clamp_(0, q_max)
            difference = w - (q - zero) / scale
            shrunk = self._shrink(difference, beta)
            zero = torch.mean(q - (w - shrunk) * scale, dim=1, keepdim=True)
            beta *= self.kappa
            error = float(difference.abs().mean())
            if error >= least:
                break
            least = error
        return zero

    def _shrink(self, x: torch.Tensor, beta: float) -> torch.Tensor:
        """Generalized soft threshold; |0|^(p-1) is infinite and gives 0."""
        size = x.abs()
        return x.sign() * (size - size.pow(self.norm - 1) / beta).clamp_(min=0)

    def _store(self, values: torch.Tensor, name: str) -> torch.Tensor:
        """Values rounded to their stored precision, float32."""
        stored = values.half().float() if self.stored == "float16" else values
        if not bool(torch.isfinite(stored).all()):
            raise CheckpointError(
                f"{name} has a group whose hqq scale or zero point is beyond {self.stored}; use stored='float32' or "
                "another method"
            )
        return stored


DEQUANTIZER = HalfQuadratic
