"""dareq-entropy's rounding: 8-bit codes whose steps and choice follow the price of a bit."""

from __future__ import annotations

from dataclasses import dataclass

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
from dareq_edge.rounding.rows import feedback_rows
from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RateParts(Parts):
    """The parts of the recipe, as its fields of the same names."""

    passes: int = 3
    step: float = 1.0


@dataclass(frozen=True, slots=True)
class RateRounding:
    """See ``dareq_edge.recipes._dareq_block.Rounding``.

    Attributes:
        parts: What to do.
        slope: Nats per token that a bit is worth.
    """

    parts: RateParts
    slope: float

    def __call__(
        self,
        weight: torch.Tensor,
        second: torch.Tensor,
        factor: Factor | None,
        output: torch.Tensor | None,
        spec: QuantSpec,
        name: str,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See ``Rounding``; code lengths are those of the pass before, zero at first."""
        _grid.check(weight, name)
        factor = factor or without_feedback(second)
        lengths = torch.zeros(CODES)

        def quantize(rows: torch.Tensor, importance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            steps = self.parts.step * step_sizes(importance, factor, self.slope)
            finest = rows.abs().amax(dim=1) / (spec.zero_point - 1)
            scales = _grid.stored_scales(torch.maximum(steps, finest)[:, None], spec)
            return rate_feedback(rows, scales, importance, factor, lengths, self.slope), scales

        for _ in range(self.parts.passes):
            if output is None:
                q, scales = quantize(weight, relative_importance(weight, second))
            else:
                q, scales = feedback_rows(weight, output, quantize, spec, damping=self.parts.row_damping, name=name)
            lengths = code_lengths(q)
        return q, scales
