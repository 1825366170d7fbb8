"""Round to nearest: s = absmax / q_max per row or group, half to even. The baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantizers import _grid
from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True)
class RoundToNearest:
    """Symmetric absmax quantization; nothing is clipped and code 0 (the value -2^(bits-1)) is never used."""

    def __call__(self, weight: torch.Tensor, spec: QuantSpec, name: str = "weight") -> QuantizedTensor:
        """See ``dareq_edge.quantizers.Quantizer``."""
        return _grid.quantize(weight, spec, name, _absmax_scales)


def _absmax_scales(segments: torch.Tensor, q_max: int) -> torch.Tensor:
    return segments.abs().amax(dim=1) / q_max


QUANTIZER = RoundToNearest
