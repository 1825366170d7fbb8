"""NF4, the 4-bit normal-float codebook of QLoRA as bitsandbytes stores it: 16 quantiles times an absmax per block.

Dettmers, Pagnoni, Holtzman, Zettlemoyer, "QLoRA" (arXiv 2305.14314, section 3 and appendix E). Published code:
bitsandbytes-foundation/bitsandbytes@c037a30 ``csrc/kernels.cu`` (dQuantizeNF4: codes by comparison with the
midpoints of neighbouring levels, the lower level on a tie; kQuantizeBlockwise: weights times 1 / absmax) and @8b3c0f3
``bitsandbytes/functional.py`` (create_dynamic_map). Blocks are cut from the flattened matrix, so they may straddle
rows, and only the last may be short. Where we differ: a block of zeros stays zero, also with ``double``.

Double quantization (``compress_statistics``) stores absmax minus its mean over the matrix in 8 bits: the 256 levels
of the signed dynamic map times an fp32 absmax per 256 blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dareq_edge.dequantized._codebook import block_of, inverse, nearest, through_codebook
from dareq_edge.errors import SpecError
from dareq_edge.spec import QuantSpec

LEVELS = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""The codebook (QLoRA, appendix E): quantiles of the normal distribution, scaled to [-1, 1], with an exact 0."""

_NESTED = 256  # absmax values that share a scale under double quantization


@dataclass(frozen=True, slots=True)
class NormalFloat:
    """NF4 with blocks of ``spec.group_size`` weights.

    Attributes:
        double: Quantize the blocks' absmax to 8 bits as well.

    Raises:
        SpecError: A value cannot work.
    """

    double: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.double, bool):
            raise SpecError(f"double is {self.double!r}; use True or False")

    def __call__(self, weight: torch.Tensor, spec: QuantSpec, name: str = "weight") -> torch.Tensor:
        """See ``dareq_edge.dequantized.Dequantizer``."""
        levels = torch.tensor(LEVELS, dtype=torch.float32, device=weight.device)
        size = block_of(spec, "nf4")
        return through_codebook(weight, size, name, lambda x: nearest(x, levels), _compress if self.double else None)

    def bits_per_weight(self, k: int, spec: QuantSpec) -> float:
        """See ``dareq_edge.dequantized.Dequantizer``; blocks ignore rows, so ``k`` plays no part.

        Left out: what a short last block adds, and the 32 bits per matrix of double quantization's mean.
        """
        size = block_of(spec, "nf4")
        return 4 + (8 + 32 / _NESTED if self.double else 32) / size


def dynamic_map() -> torch.Tensor:
    """The signed 8-bit dynamic map, float32 [256]: 0, 1 and, for i = 0..6, ± 2^i points in 10^(i-7) to 10^(i-6)."""
    means = []
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2**i + 1, dtype=torch.float32)
        means.append((edges[:-1] + edges[1:]) / 2 * 10.0 ** (i - 6))
    positive = torch.cat(means)
    return torch.cat([positive, -positive, torch.tensor([0.0, 1.0])]).sort().values


def _compress(absmax: torch.Tensor) -> torch.Tensor:
    """Absmax [M] after a trip through 8 bits."""
    mean = absmax.mean()
    centred = absmax - mean
    blocks = torch.nn.functional.pad(centred, (0, -len(centred) % _NESTED)).reshape(-1, _NESTED)
    top = blocks.abs().amax(dim=1)
    coded = nearest(blocks * inverse(top)[:, None], dynamic_map().to(absmax.device))
    return (coded * top[:, None]).reshape(-1)[: len(absmax)] + mean


DEQUANTIZER = NormalFloat
