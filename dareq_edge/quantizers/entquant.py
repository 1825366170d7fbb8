"""EntQuant: 8-bit codes per output channel whose distribution is shaped to a low entropy, to be coded losslessly.

arXiv 2601.22787; published code merantix-momentum/entquant@5eb44e3. Scales minimize the relative L1 error plus lambda
times the mean magnitude of the codes, the proxy for their entropy; about 4, 3 and 2 bits at lambda 3.9, 14.5 and 58.

* ``scale="closed_form"``: see ``_entquant_rows``; milliseconds for a million weights.
* ``scale="lbfgs"``: the published solver, see ``_entquant_lbfgs``; seconds.
* ``codes="float8"``: E4M3 codes as int8, see ``_float8``. A row that would need codes above 127 units gets the least
  scale with which it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from dareq_edge.errors import SpecError
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantizers import _float8, _grid, check_form
from dareq_edge.quantizers._entquant_lbfgs import optimize
from dareq_edge.quantizers._entquant_rows import Magnitudes, closed_form, largest_magnitudes
from dareq_edge.quantizers._rate import entropy_bits, solve
from dareq_edge.spec import QuantSpec

Scale = Literal["closed_form", "lbfgs"]
"""How scales are found."""
Codes = Literal["int8", "float8"]
"""The grid of the codes."""

LAMBDA = 14.5
"""The published setting for about 3 bits."""

FORMS = "8-bit codes per channel (bits=8, group_size=None; target_bits says what they are coded in)"
_NEAR = 0.005  # bits


def takes(spec: QuantSpec) -> bool:
    """Whether the method exists in this form: 8 bits per channel."""
    return spec.bits == 8 and spec.group_size is None


@dataclass(frozen=True, slots=True)
class EntQuant:
    """EntQuant per row.

    Attributes:
        scale: See ``Scale``.
        codes: See ``Codes``.
        lam: lambda, what a bit is worth; ``None`` is 14.5, or what ``target_bits`` asks for.
        target_bits: Entropy of the matrix's codes, bits per weight; a matrix that cannot have it gets the nearest.

    Raises:
        SpecError: A value cannot work.
    """

    scale: Scale = "closed_form"
    codes: Codes = "int8"
    lam: float | None = None
    target_bits: float | None = None

    def __post_init__(self) -> None:
        for field, allowed in (("scale", get_args(Scale)), ("codes", get_args(Codes))):
            if getattr(self, field) not in allowed:
                raise SpecError(f"{field} is {getattr(self, field)!r}; use {' or '.join(allowed)}")
        check_rate(self.lam, self.target_bits)

    def __call__(self, weight: torch.Tensor, spec: QuantSpec, name: str = "weight") -> QuantizedTensor:
        """See ``dareq_edge.quantizers.Quantizer``.

        Raises:
            SpecError: The spec is not 8 bits per channel.
        """
        check_form("entquant", spec, name)
        _grid.check(weight, name)
        sizes = Magnitudes.of(weight)
        if self.target_bits is None:
            return self._at(self.lam or LAMBDA, weight, sizes, spec, name)
        lam, _ = solve(
            lambda lam: entropy_bits(self._at(lam, weight, sizes, spec, name).codes), self.target_bits, _NEAR
        )
        return self._at(lam, weight, sizes, spec, name)

    def at(self, lam: float, rows: torch.Tensor, whole: float, spec: QuantSpec, name: str) -> QuantizedTensor:
        """Some rows of a matrix, as they come out when the whole is quantized with closed-form scales.

        Args:
            lam: lambda.
            rows: Floating [R, K].
            whole: mean|W| of the whole matrix.
            spec: 8 bits per channel.
            name: For error messages.
        """
        return self._at(lam, rows, Magnitudes.of(rows, whole), spec, name)

    def _at(self, lam: float, weight: torch.Tensor, sizes: Magnitudes, spec: QuantSpec, name: str) -> QuantizedTensor:
        float8 = self.codes == "float8"
        if self.scale == "closed_form":
            scales = closed_form(weight, sizes, lam, float8=float8)
        else:
            scales = optimize(weight, lam, name, float8=float8) * (_float8.UNIT if float8 else 1)
        if float8:
            scales = _float8.fit(scales, largest_magnitudes(weight))
        rounding: _grid.Round = _round_float8 if float8 else _grid.round_half_even
        return _grid.encode_rows(weight, _grid.stored_scales(scales, spec), spec, rounding)


def check_rate(lam: object, target_bits: object) -> None:
    """Refuse what cannot be a lambda or a rate.

    Raises:
        SpecError: A value is out of range, or both are given.
    """
    if lam is not None and target_bits is not None:
        raise SpecError(f"lam is {lam!r} and target_bits {target_bits!r}; give one of them")
    for field, value, low, high in (("lam", lam, 0.01, 1e5), ("target_bits", target_bits, 0.5, 8)):
        if value is not None and (
            not isinstance(value, (int, float)) or isinstance(value, bool) or not low <= value <= high
        ):
            raise SpecError(f"{field} is {value!r}; use a number from {low:g} to {high:g}")


def _round_float8(w: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return _float8.nearest_units(torch.div(w, scale))


QUANTIZER = EntQuant
