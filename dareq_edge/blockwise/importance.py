"""What errors of a layer's rows and columns cost, in nats per token, from its moments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from dareq_edge.blockwise.outputs import CHUNK
from dareq_edge.matrix import matrix_of
from dareq_edge.rounding.damping import inverse_factor
from dareq_edge.rounding.rate import relative_importance


def importances(
    block: nn.Module,
    group: Sequence[str],
    second: torch.Tensor,
    outputs: Mapping[str, torch.Tensor] | None,
    row_damping: float,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What an error of each row costs once the rows after it have made up for it, per layer of a group.

    Args:
        block: The block, with its weights.
        group: Layers that share their input.
        second: H of that input, float32 [K, K].
        outputs: Output moments of the block (``Outputs.load``); ``None`` counts errors relative to the outputs' size.
        row_damping: Fraction of the mean diagonal added to output moments.

    Yields:
        Weight float32 [N, K] and g float32 [N].
    """
    layers = [matrix_of(block.get_submodule(name)) for name in group]
    if not outputs:
        together = relative_importance(torch.cat(layers), second)
        yield from zip(layers, torch.split(together, [len(w) for w in layers]), strict=True)
        return
    for name, weight in zip(group, layers, strict=True):
        found = torch.empty(len(weight))
        for start in range(0, len(weight), CHUNK):
            g = outputs[f"{name}:{start}"]
            order = torch.argsort(g.diagonal(), descending=True, stable=True)
            upper = inverse_factor(g[order][:, order], row_damping, name)
            found[start + order] = upper.diagonal().pow(-2)
        yield weight, found
