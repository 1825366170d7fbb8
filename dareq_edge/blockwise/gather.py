"""Gathering moments: what the layers of one block are given, by the quantized prefix and by the float model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from dareq_edge.blockwise.moments import Moments
from dareq_edge.blockwise.walk import Decoder
from dareq_edge.matrix import matrix_of


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One way through the decoder.

    Attributes:
        block: The current block, from ``Decoder.block``; changed or not.
        hidden: What it is given, float32 [S, T, D]; not changed.
    """

    block: nn.Module
    hidden: torch.Tensor


@torch.no_grad()
def observe(
    decoder: Decoder, index: int, stream: Stream, names: Sequence[str]
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Run a stream's block and keep what the named layers are given.

    Returns:
        Layer → its input, [S, T, K] in the decoder's precision; and hidden states after the block, float32 [S, T, D].
    """
    inputs: dict[str, torch.Tensor] = {}
    hidden = torch.empty_like(stream.hidden)
    for part in decoder.batches(hidden):

        def note(name: str, part: slice = part) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
            def hook(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
                x = given[0].to(getattr(torch, decoder.compute)).reshape(*hidden[part].shape[:2], -1)
                if name not in inputs:
                    inputs[name] = x.new_empty(len(hidden), *x.shape[1:])
                inputs[name][part] = x

            return hook

        handles = [stream.block.get_submodule(name).register_forward_pre_hook(note(name)) for name in names]
        try:
            hidden[part] = decoder.forward(stream.block, index, stream.hidden[part])
        finally:
            for handle in handles:
                handle.remove()
    return inputs, hidden


def gather(
    decoder: Decoder,
    index: int,
    stream: Stream,
    names: Sequence[str],
    reference: Mapping[str, torch.Tensor] | None = None,
) -> dict[str, Moments]:
    """Moments of what the named layers are given.

    Args:
        decoder: The walk.
        index: Which block the streams are at.
        stream: Where the inputs come from.
        names: Layers, by name in the block; of those that share an input, one is enough.
        reference: Gather cross moments with these inputs too, see ``observe``.
    """
    found = {
        name: Moments(matrix_of(stream.block.get_submodule(name)).shape[1], cross=reference is not None)
        for name in names
    }
    for part in decoder.batches(stream.hidden):
        here = decoder.inputs(stream.block, index, stream.hidden[part], names)
        for name, x in here.items():
            found[name].add(x, reference=reference[name][part].view_as(x) if reference else None)
    return found
