"""Which planned layers of a block are given the same tensor: found by looking, for any architecture."""

from __future__ import annotations

import torch
from torch import nn

from dareq_edge.blockwise.walk import Decoder
from dareq_edge.errors import UnsupportedArchitectureError
from dareq_edge.matrix import LINEARS


def input_groups(decoder: Decoder, block: nn.Module, index: int) -> list[list[str]]:
    """Planned linear layers of a block in the order they run; those that are given the same tensor together.

    Args:
        decoder: The walk.
        block: From ``decoder.block(index)``.
        index: Which block it is.

    Returns:
        Names in the block, e.g. [["self_attn.q_proj", "self_attn.k_proj", …], ["self_attn.out_proj"], …].

    Raises:
        UnsupportedArchitectureError: A planned layer does not run exactly once (a mixture of experts).
    """
    plan, prefix = decoder.skeleton.source.plan, f"{decoder.path(index)}."
    planned = {n: m for n, m in block.named_modules() if f"{prefix}{n}" in plan and isinstance(m, LINEARS)}
    seen: list[tuple[str, torch.Tensor, int]] = []  # holds the tensors, so that no address is used twice
    handles = [
        module.register_forward_pre_hook(lambda _, x, name=name: seen.append((name, x[0], x[0]._version)))
        for name, module in planned.items()
    ]
    noise = torch.randn(1, 2, decoder.outside.width, generator=torch.Generator().manual_seed(0))
    try:
        decoder.forward(block, index, noise)
    finally:
        for handle in handles:
            handle.remove()
    runs = [name for name, _, _ in seen]
    for name in planned:
        if runs.count(name) != 1:
            raise UnsupportedArchitectureError(
                f"{prefix}{name} runs {runs.count(name)} times on one text, not once (a mixture of experts?); use a "
                "recipe that treats every matrix alone, e.g. mse"
            )
    groups: dict[tuple[int, int, int], list[str]] = {}
    for name, x, version in seen:  # the version tells a tensor from what an in-place activation made of it
        groups.setdefault((x.data_ptr(), x.numel(), version), []).append(name)
    return list(groups.values())
