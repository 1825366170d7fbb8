"""AWQ's two searches in one decoder layer: factors per input channel, then how far to clip.

mit-han-lab/llm-awq@02c1dd6 ``awq/quantize/auto_scale.py`` and @460d6d4 ``auto_clip.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dareq_edge.blockwise.moments import Moments
from dareq_edge.blockwise.walk import Decoder, Stop
from dareq_edge.errors import CheckpointError
from dareq_edge.folds import Fold
from dareq_edge.matrix import LINEARS, matrix_of
from dareq_edge.quantizers import _grid
from dareq_edge.rounding.codes import dequantize, nearest
from dareq_edge.spec import QuantSpec

_GRID, _SHRINK = 20, 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One decoder layer in float, and what it is given.

    Attributes:
        decoder: The walk.
        index: Which layer.
        block: Its module.
        hidden: float32 [S, T, D], by the float layers before it; not changed.
        specs: Of the planned linear layers, by name in the block.
    """

    decoder: Decoder
    index: int
    block: nn.Module
    hidden: torch.Tensor
    specs: dict[str, QuantSpec]

    def weight(self, name: str) -> torch.Tensor:
        """W [N, K] of a linear layer, a view."""
        return matrix_of(self.block.get_submodule(name))


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What linear layers that share an input are given: E[x xᵀ] float32 [K, K] and mean |x| float32 [K]."""

    second: torch.Tensor
    size: torch.Tensor


def rtn(weight: torch.Tensor, spec: QuantSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to nearest: float32 [N, K] → signed codes int8 [N, K] and stored scales float32 [N, G]."""
    groups = torch.split(weight, spec.group_size or weight.shape[1], dim=1)
    widest = torch.stack([part.abs().amax(dim=1) for part in groups], dim=1)
    scales = _grid.stored_scales(widest / (spec.zero_point - 1), spec)
    return nearest(weight, scales, spec), scales


def observe(layer: Layer, names: list[str]) -> dict[str, Inputs]:
    """What the named linear layers are given."""
    moments = {name: Moments(layer.weight(name).shape[1]) for name in names}
    sizes = {name: torch.zeros(layer.weight(name).shape[1], dtype=torch.float64) for name in names}
    for part in layer.decoder.batches(layer.hidden):
        found = layer.decoder.inputs(layer.block, layer.index, layer.hidden[part], names) if names else {}
        for name, x in found.items():
            moments[name].add(x)
            sizes[name] += x.reshape(-1, x.shape[-1]).abs().sum(dim=0, dtype=torch.float64)
    return {name: Inputs(m.second, (sizes[name] / m.weight).float()) for name, m in moments.items()}


def search_factors(layer: Layer, fold: Fold, inputs: Inputs) -> torch.Tensor:
    """The best factors of the form mean|x|^r, r = 0, 0.05 … 0.95, over the root of their largest times their least.

    Best is what changes the output of ``fold.within`` least, when the layers after the fold are rounded as W t and
    divided by t again.

    Returns:
        t, float32 [K].

    Raises:
        CheckpointError: NaN or infinity.
    """
    names = [name for name in fold.after if name in layer.specs]
    kept = {name: layer.weight(name).clone() for name in names}
    loss = _linear_loss(layer, fold, inputs) if fold.within in kept else _module_loss(layer, fold)
    best, least = None, float("inf")
    for i in range(_GRID):
        t = inputs.size.pow(i / _GRID).clamp_min(1e-4)
        t = t / (t.max() * t.min()).sqrt()
        for name in names:
            q, scales = rtn(kept[name] * t, layer.specs[name])
            layer.weight(name).copy_(dequantize(q, scales, layer.specs[name]) / t)
        found = loss()
        if found < least:
            best, least = t, found
    for name in names:
        layer.weight(name).copy_(kept[name])
    if best is None:
        raise CheckpointError(
            f"{layer.decoder.path(layer.index)}.{fold.within or 'output'} holds NaN or infinity on the calibration "
            "text; repair the checkpoint or give other text"
        )
    return best


def clip(weight: torch.Tensor, second: torch.Tensor, spec: QuantSpec) -> torch.Tensor:
    """W with its largest weights clipped where that lowers the error of the rounded layer's output.

    Per row and group the bound is absmax times 1, 0.95 … 0.55. The error is taken over all tokens; the published
    code takes every n-th, 512 in all.

    Args:
        weight: float32 [N, K].
        second: H, float32 [K, K].
        spec: Bits and groups.

    Returns:
        float32 [N, K], new.
    """
    size = spec.group_size or weight.shape[1]
    best, least = weight, torch.full((weight.shape[0], spec.groups(weight.shape[1])), torch.inf)
    for i in range(int(_SHRINK * _GRID)):
        bounded = [
            p.clamp(-(b := p.abs().amax(dim=1, keepdim=True) * (1 - i / _GRID)), b)
            for p in torch.split(weight, size, dim=1)
        ]
        candidate = torch.cat(bounded, dim=1)
        wrong = weight - dequantize(*rtn(candidate, spec), spec)
        error = torch.stack(
            [
                ((d @ h) * d).sum(dim=1)
                for d, h in zip(torch.split(wrong, size, dim=1), _diagonal(second, size), strict=True)
            ],
            1,
        )
        better = error < least
        least = torch.where(better, error, least)
        wide = better.repeat_interleave(size, dim=1)[:, : weight.shape[1]]
        best = torch.where(wide, candidate, best)
    return best


def _diagonal(second: torch.Tensor, size: int) -> list[torch.Tensor]:
    """The blocks of H on its diagonal that belong to groups."""
    return [second[i : i + size, i : i + size] for i in range(0, len(second), size)]


def _linear_loss(layer: Layer, fold: Fold, inputs: Inputs) -> Callable[[], float]:
    """The mean squared error of one linear layer's output: D H Dᵀ summed, the same as running it on every token."""
    weight = layer.weight(fold.within)
    original = weight.clone()

    def loss() -> float:
        d = original - weight
        return float(((d @ inputs.second) * d).sum())

    return loss


def _module_loss(layer: Layer, fold: Fold) -> Callable[[], float]:
    """The squared error of a module's output, summed over all tokens."""
    module = layer.block.get_submodule(fold.within)
    assert not isinstance(module, LINEARS)
    calls = _calls(layer, module)
    precision = layer.decoder.compute == "bfloat16"

    def outputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision):
            out = module(*args, **kwargs)
        first: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return first.float()

    originals = [outputs(*call) for call in calls]

    def loss() -> float:
        pairs = zip(calls, originals, strict=True)
        return sum(float((outputs(*call) - original).square().sum()) for call, original in pairs)

    return loss


def _calls(layer: Layer, module: nn.Module) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What a module of the block is called with, batch by batch."""
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append((args, kwargs))
        raise Stop

    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        for part in layer.decoder.batches(layer.hidden):
            try:
                layer.decoder.forward(layer.block, layer.index, layer.hidden[part])
            except Stop:
                continue
    finally:
        handle.remove()
    return found
