"""FP4 as bitsandbytes stores it, its default 4-bit type: eight magnitudes, a sign, and an absmax per block.

Published code: bitsandbytes-foundation/bitsandbytes ``csrc/kernels.cu``; dDequantizeFP4Tree has the levels,
dQuantizeFP4 compares the magnitude with the midpoints of neighbouring levels, the smaller one on a tie. With 12 as
the largest value the levels are 0, 1/16, 2, 3, 4, 6, 8, 12.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dareq_edge.dequantized._codebook import block_of, nearest, through_codebook
from dareq_edge.spec import QuantSpec

MAGNITUDES = (0.0, 0.0625 / 12, 2 / 12, 3 / 12, 4 / 12, 6 / 12, 8 / 12, 1.0)
"""Of a weight over its block's absmax."""


@dataclass(frozen=True, slots=True)
class Float4:
    """FP4 with blocks of ``spec.group_size`` weights and float32 absmax."""

    def __call__(self, weight: torch.Tensor, spec: QuantSpec, name: str = "weight") -> torch.Tensor:
        """See ``dareq_edge.dequantized.Dequantizer``."""
        levels = torch.tensor(MAGNITUDES, dtype=torch.float32, device=weight.device)
        return through_codebook(weight, block_of(spec, "fp4"), name, lambda x: nearest(x.abs(), levels).copysign(x))

    def bits_per_weight(self, k: int, spec: QuantSpec) -> float:
        """See ``dareq_edge.dequantized.Dequantizer``; blocks ignore rows, so ``k`` plays no part."""
        return 4 + 32 / block_of(spec, "fp4")


DEQUANTIZER = Float4
