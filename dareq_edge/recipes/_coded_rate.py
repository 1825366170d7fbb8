"""The lambda at which a model's linears cost a wanted number of bits in a container, from a sample of their rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from dareq_edge.container import coded_bytes
from dareq_edge.errors import SpecError
from dareq_edge.matrix import matrix_of
from dareq_edge.progress import Progress
from dareq_edge.quantizers._entquant_rows import Magnitudes
from dareq_edge.quantizers._rate import solve
from dareq_edge.quantizers.entquant import EntQuant
from dareq_edge.recipes import Source
from dareq_edge.spec import QuantSpec

SAMPLE = 1 << 18
"""Weights of a matrix that are looked at, in whole rows spread over it: a frame of codes."""

_NEAR = 0.004  # bits: a fifth of what the wanted rate may be missed by


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Some rows of one matrix.

    Attributes:
        name: Of its module.
        rows: Floating [R, K], in the dtype of the file.
        whole: mean|W| of the whole matrix.
        weights: How many weights the whole matrix has.
        spec: How it is quantized.
    """

    name: str
    rows: torch.Tensor
    whole: float
    weights: int
    spec: QuantSpec


def find_lambda(
    source: Source, modules: Collection[str], quantizer: EntQuant, wanted: float, progress: Progress
) -> float:
    """The lambda for all of some modules together.

    Args:
        source: Read once, tensor by tensor.
        modules: Planned modules.
        quantizer: Which codes; scales are in closed form.
        wanted: Bits per weight in a container, scales included.
        progress: Called per tensor.

    Raises:
        SpecError: No lambda gives so many bits, or so few.
    """
    samples = []
    for done, module in enumerate(modules):
        progress("measuring", done, len(modules))
        weight = matrix_of(source.model.get_submodule(module), source.tensor(f"{module}.weight"))
        samples.append(take(module, weight, source.plan[module]))
    progress("measuring", len(modules), len(modules))
    lam, found = solve(lambda lam: coded_bits(samples, quantizer, lam), wanted, _NEAR)
    if abs(found - wanted) > 5 * _NEAR:
        raise SpecError(
            f"target_bits is {wanted:g}, but codes of this model come to {found:.2f} bits at the nearest; use that"
        )
    return lam


def take(name: str, weight: torch.Tensor, spec: QuantSpec) -> Sample:
    """Sample a matrix [N, K], and measure all of it."""
    n, k = weight.shape
    count = min(n, max(1, -(-SAMPLE // k)))
    index = torch.linspace(0, n - 1, count).round().long()
    return Sample(name, weight[index].clone(), Magnitudes.of(weight).whole, n * k, spec)


def coded_bits(samples: Sequence[Sample], quantizer: EntQuant, lam: float) -> float:
    """Bits per weight of all matrices at one lambda, each counting with its size."""
    bits = 0.0
    for sample in samples:
        value = quantizer.at(lam, sample.rows, sample.whole, sample.spec, sample.name)
        bits += 8 * coded_bytes(value.codes, value.scales, value.spec.bits) / value.codes.size * sample.weights
    return bits / sum(sample.weights for sample in samples)
