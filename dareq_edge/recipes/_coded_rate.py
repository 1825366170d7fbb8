"""The lambda at which a model's linears cost a wanted number of bits in a container, from a sample of their rows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch

from dareq_edge.allocation.bytes import format_bytes
from dareq_edge.container import coded_bytes
from dareq_edge.errors import AllocationError, SpecError
from dareq_edge.matrix import matrix_of
from dareq_edge.progress import Progress
from dareq_edge.quantizers._entquant_rows import Magnitudes
from dareq_edge.quantizers._rate import MOST, solve
from dareq_edge.quantizers.entquant import EntQuant
from dareq_edge.recipes import Source
from dareq_edge.recipes._fit import table_bytes
from dareq_edge.spec import QuantSpec

SAMPLE = 1 << 18
"""Weights of a matrix that are looked at, in whole rows spread over it: a frame of codes."""

_COARSER = 1.01  # times lambda, where the whole does not fit
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
    samples = take_all(source, modules, progress)
    lam, found = solve(lambda lam: coded_bits(samples, quantizer, lam), wanted, _NEAR)
    if abs(found - wanted) > 5 * _NEAR:
        raise SpecError(
            f"target_bits is {wanted:g}, but codes of this model come to {found:.2f} bits at the nearest; use that"
        )
    return lam


def fit_lambda(
    source: Source, modules: Collection[str], quantizer: EntQuant, room: int, smallest: int, progress: Progress
) -> float:
    """The lambda at which some modules together take no more than a number of bytes in a container.

    Samples say about where; then all of them are coded, with a larger lambda until they fit.

    Args:
        source: Read as often as that takes.
        modules: Planned modules.
        quantizer: Which codes and scales.
        room: Bytes.
        smallest: Bytes of all else, for the message.
        progress: Called per tensor.

    Raises:
        AllocationError: They do not fit at any lambda; the message says the smallest possible size.
    """
    samples = take_all(source, modules, progress)
    weights = sum(sample.weights for sample in samples)
    lam, bits = solve(lambda lam: coded_bits(samples, quantizer, lam), 8 * room / weights, _NEAR)
    if bits > 8 * room / weights + 5 * _NEAR:
        lam = MOST  # even that will hardly do
    while True:
        taken = 0
        for done, module in enumerate(modules):
            progress("coding", done, len(modules))
            taken += table_bytes(source, module, replace(quantizer, lam=lam))
        progress("coding", len(modules), len(modules))
        if taken <= room:
            return lam
        if lam >= MOST:
            raise AllocationError(
                f"no lambda fits packed data of {format_bytes(smallest + room)}; the smallest possible is "
                f"{format_bytes(smallest + taken)}, allow at least that and the graph"
            )
        more = 8 * (taken - room) / weights  # half a bit for each doubling
        lam = min(lam * _COARSER * 4.0**more, MOST)


def take_all(source: Source, modules: Collection[str], progress: Progress) -> list[Sample]:
    """A sample of every module."""
    samples = []
    for done, module in enumerate(modules):
        progress("measuring", done, len(modules))
        weight = matrix_of(source.model.get_submodule(module), source.tensor(f"{module}.weight"))
        samples.append(take(module, weight, source.plan[module]))
    progress("measuring", len(modules), len(modules))
    return samples


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
