"""Gathering moments: what the layers of one block are given, by the quantized prefix and by the float model."""

from __future__ import annotations

from collections.abc import Sequence
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


def gather(
    decoder: Decoder, index: int, stream: Stream, names: Sequence[str], reference: Stream | None = None
) -> dict[str, Moments]:
    """Moments of what the named layers are given.

    Args:
        decoder: The walk.
        index: Which block the streams are at.
        stream: Where the inputs come from.
        names: Layers, by name in the block; of those that share an input, one is enough.
        reference: Gather cross moments with this stream's inputs too.
    """
    found = {
        name: Moments(matrix_of(stream.block.get_submodule(name)).shape[1], cross=reference is not None)
        for name in names
    }
    for part in decoder.batches(stream.hidden):
        here = decoder.inputs(stream.block, index, stream.hidden[part], names)
        there = reference and decoder.inputs(reference.block, index, reference.hidden[part], names)
        for name, x in here.items():
            found[name].add(x, reference=there[name] if there else None)
    return found
