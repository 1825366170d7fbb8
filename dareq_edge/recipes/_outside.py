"""What block-wise recipes do with the planned matrices that are not layers of a block: tables, head, projections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import nn

from dareq_edge.blockwise.walk import Decoder
from dareq_edge.matrix import matrix_of
from dareq_edge.quantizers import Quantizer
from dareq_edge.recipes import Change, Source


def outside_changes(
    source: Source, decoder: Decoder, quantizers: Mapping[str, Quantizer] | None = None
) -> Iterator[Change]:
    """Each of them alone, by a quantizer of its own, or that in the source's options."""
    for module in outside_modules(source, decoder):
        quantizer = source.options.quantizer() if quantizers is None else quantizers[module]
        target = f"{module}.weight"
        weight = matrix_of(source.model.get_submodule(module), source.tensor(target))
        yield target, quantizer(weight, source.plan[module], module)


def outside_modules(source: Source, decoder: Decoder) -> list[str]:
    """Their names."""
    inside = f"{decoder.skeleton.path}."
    owners = {module: source.model.get_submodule(module) for module in source.plan}
    return [m for m, owner in owners.items() if isinstance(owner, nn.Embedding) or not m.startswith(inside)]
