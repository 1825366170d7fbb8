"""What block-wise recipes do with the planned matrices that are not layers of a block: tables, head, projections."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from dareq_edge.blockwise.walk import Decoder
from dareq_edge.matrix import matrix_of
from dareq_edge.quantizers import Quantizer
from dareq_edge.recipes import Change, Source


def outside_changes(source: Source, decoder: Decoder, quantizer: Quantizer | None = None) -> Iterator[Change]:
    """Each of them alone, by a quantizer, or that in the source's options."""
    quantizer = quantizer or source.options.quantizer()
    for module, spec in source.plan.items():
        owner = source.model.get_submodule(module)
        if isinstance(owner, nn.Embedding) or not module.startswith(f"{decoder.skeleton.path}."):
            target = f"{module}.weight"
            weight = matrix_of(owner, source.tensor(target))
            yield target, quantizer(weight, spec, module)
