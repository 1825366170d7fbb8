"""dareq-entropy's rounding: 8-bit codes whose steps and choice follow the price of a bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from dareq_edge.quantizers import _grid
from dareq_edge.recipes._dareq_block import Parts
from dareq_edge.rounding.feedback import Factor
from dareq_edge.rounding.rate import (
    CODES,
    code_lengths,
    rate_feedback,
    relative_importance,
    step_sizes,
    without_feedback,
)
from dareq_edge.rounding.rows import ROWS, feedback_rows
from dareq_edge.rounding.trellis import LARGEST, STEP, TRELLIS_ROWS, start_states, trellis_feedback
from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RateParts(Parts):
    """The parts of the recipe, as its fields of the same names."""

    trellis: bool = True
    passes: int = 3
    step: float = 1.0


@dataclass(frozen=True, slots=True)
class RateRounding:
    """See ``dareq_edge.recipes._dareq_block.Rounding``.

    Attributes:
        parts: What to do.
        slope: Nats per token that a bit is worth.
        factors: What to multiply it with, by name of a layer; 1 where there is none.
    """

    parts: RateParts
    slope: float
    factors: Mapping[str, float] = field(default_factory=dict)

    def __call__(
        self,
        weight: torch.Tensor,
        second: torch.Tensor,
        factor: Factor | None,
        output: torch.Tensor | None,
        spec: QuantSpec,
        name: str,
        above: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Rounding``; code lengths are those of the pass before, zero at first."""
        _grid.check(weight, name)
        factor = factor or without_feedback(second)
        slope = self.slope * self.factors.get(name, 1.0)
        pass_ = _Pass(self.parts, slope, factor, spec, above, torch.zeros(CODES))
        for _ in range(self.parts.passes):
            if output is None:
                q, scales = pass_(weight, relative_importance(weight, second))
            else:
                q, scales = feedback_rows(
                    weight,
                    output,
                    pass_,
                    spec,
                    damping=self.parts.row_damping,
                    ordered=not self.parts.trellis,
                    strip=TRELLIS_ROWS if self.parts.trellis else ROWS,
                    name=name,
                )
            pass_ = _Pass(self.parts, slope, factor, spec, above, code_lengths(torch.cat(pass_.counted)))
        return q, scales


class _Pass:
    """Rounds a layer once, some rows at a time from the top."""

    def __init__(
        self,
        parts: RateParts,
        slope: float,
        factor: Factor,
        spec: QuantSpec,
        above: torch.Tensor | None,
        lengths: torch.Tensor,
    ) -> None:
        self._parts = parts
        self._slope = slope
        self._factor = factor
        self._spec = spec
        self._lengths = lengths
        self._states = start_states(above, factor.order)
        self.counted: list[torch.Tensor] = []
        """What the coder will be given: codes, or indices of the trellis, int8."""

    def __call__(self, rows: torch.Tensor, importance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``rounding.rows.Quantize``."""
        parts, slope = self._parts, self._slope
        steps = parts.step * step_sizes(importance, self._factor, slope) * (STEP if parts.trellis else 1.0)
        finest = rows.abs().amax(dim=1) / (LARGEST if parts.trellis else self._spec.zero_point - 1)
        scales = _grid.stored_scales(torch.maximum(steps, finest)[:, None], self._spec)
        if parts.trellis:
            q, indices = trellis_feedback(rows, scales, importance, self._factor, self._lengths, slope, self._states)
            self.counted.append(indices)
        else:
            q = rate_feedback(rows, scales, importance, self._factor, self._lengths, slope)
            self.counted.append(q)
        return q, scales
