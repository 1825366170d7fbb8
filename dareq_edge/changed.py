"""Which tensors a recipe changed besides the matrices it quantized."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from dareq_edge.checkpoint import Checkpoint

_ROUNDING = 2**-8
"""Relative; of bfloat16, the coarser of the types a tensor may have been rounded to."""


def changed_tensors(
    quantized: Checkpoint,
    original: Checkpoint,
    model: nn.Module,
    names: Mapping[str, str],
    plan: Iterable[str],
) -> tuple[str, ...]:
    """Float tensors that differ by more than a half-precision type's rounding.

    Args:
        quantized: What ``quantize`` wrote.
        original: The float model.
        model: Of the same architecture; no weights are needed.
        names: Name in ``original`` of each of the model's tensors.
        plan: Quantized modules.
    """
    given = {f"{module}.weight" for module in plan}
    mine = quantized.bind(model, given=given)
    found = []
    for target, name in mine.items():
        if target in names and target not in given:
            a, b = quantized.tensor(name).double(), original.tensor(names[target]).double()
            if not torch.allclose(a, b, rtol=_ROUNDING, atol=0.0):
                found.append(target)
    return tuple(found)
