"""dareq's rounding: codes of fixed width, whose scales are searched."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dareq_edge.recipes._dareq_block import Parts
from dareq_edge.rounding.codes import nearest
from dareq_edge.rounding.descent import descend
from dareq_edge.rounding.feedback import Factor, feedback
from dareq_edge.rounding.rows import descend_rows, feedback_rows
from dareq_edge.rounding.search import absmax_scales, search_scales
from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class GridParts(Parts):
    """The parts of the recipe, as its fields of the same names."""

    power: int
    descent: int
    scale_search: bool = True
    signed: bool = True
    weighted: bool = True
    conditional: bool = True
    entropy_weight: float = 0.0
    refit: bool = True


@dataclass(frozen=True, slots=True)
class GridRounding:
    """See ``dareq_edge.recipes._dareq_block.Rounding``."""

    parts: GridParts

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
        """See ``Rounding``."""
        parts = self.parts

        def quantize(rows: torch.Tensor, importance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scales = _scales(rows, second, factor, spec, parts, name)
            if factor is not None:
                return feedback(rows, second, scales, spec, name=name, factor=factor), scales
            return nearest(rows, scales, spec), scales

        if output is None:
            q, scales = quantize(weight, torch.ones(len(weight)))
            if parts.descent:
                q, scales = descend(
                    weight, second, q, scales, spec, sweeps=parts.descent, refit=parts.refit, damping=parts.damping
                )
            return q, scales
        q, scales = feedback_rows(weight, output, quantize, spec, damping=parts.row_damping, name=name)
        return descend_rows(
            weight,
            second,
            output,
            q,
            scales,
            spec,
            sweeps=parts.descent,
            refit=parts.refit,
            damping=parts.damping,
            row_damping=parts.row_damping,
        )


def _scales(
    weight: torch.Tensor, second: torch.Tensor, factor: Factor | None, spec: QuantSpec, parts: GridParts, name: str
) -> torch.Tensor:
    """Scales of the rows of a target [N, K] by search, or from absmax: float32 [N, G]."""
    if not parts.scale_search:
        return absmax_scales(weight, spec, name=name)
    importance = second.diagonal() if parts.weighted else None
    if importance is not None and factor is not None and parts.conditional:
        importance = factor.variances()
    return search_scales(
        weight,
        importance,
        spec,
        power=parts.power,
        entropy_weight=parts.entropy_weight,
        signed=parts.signed,
        name=name,
    )
