"""Moments of what value projections contribute through: their inputs averaged by the attention probabilities.

Head h adds A_h (x W_vᵀ) = (A_h x) W_vᵀ to the output, so the error of the rows of W_v that belong to a key-value head
is weighted by E[(A_h x)(A_h x)ᵀ], the mean over the query heads that share them, not by E[x xᵀ].

The model's own code says what is attended to: for the length of a forward pass a function of ours stands in
transformers' AttentionInterface for the one the model uses. Layers are recognised by their output, of which ``value``
is a view, so fused projections are found too; where attention does not go through that interface, or the values are
not such a view, nothing is found and plain moments have to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dareq_edge.blockwise.gather import Stream
from dareq_edge.blockwise.moments import Moments
from dareq_edge.blockwise.walk import Decoder, Stop
from dareq_edge.matrix import LINEARS, matrix_of

_QUERIES = 64  # per window: with all 512, a third of the time of a block went into these moments


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """One call of an attention function: T new tokens attend to S, H query heads share J key-value heads.

    Attributes:
        query: [B, H, T, d].
        key: [B, J, S, d].
        value: [B, J, S, d'].
        mask: bool (true is seen) or added to the scores, [B or 1, H or 1, T, S or more]; ``None`` sees all.
        scaling: Factor of the scores.
        softcap: c in c tanh(score / c); ``None`` is the score itself.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    scaling: float
    softcap: float | None

    @property
    def shared(self) -> int:
        """Query heads per key-value head."""
        return self.query.shape[1] // self.key.shape[1]

    def thinned(self) -> Attention:
        """Every n-th query only, about ``_QUERIES`` of them: averages at neighbouring positions are nearly equal."""
        step = max(1, self.query.shape[2] // _QUERIES)
        kept = slice(step - 1, None, step)
        mask = None if self.mask is None else self.mask[:, :, kept]
        return replace(self, query=self.query[:, :, kept], mask=mask)

    def probabilities(self, head: int) -> torch.Tensor:
        """A of one query head, float32 [B, T, S]."""
        scores = (self.query[:, head] @ self.key[:, head // self.shared].mT).float() * self.scaling
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        if self.mask is not None:
            mask = self.mask[:, head if self.mask.shape[1] > 1 else 0, :, : scores.shape[-1]]
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        return torch.softmax(scores, dim=-1)

    def averaged(self, head: int, x: torch.Tensor) -> torch.Tensor:
        """A x of one query head: [B, S, K] → [B, T, K], in the query's precision."""
        return self.probabilities(head).to(self.query.dtype) @ x.to(self.query.dtype)


@dataclass(frozen=True, slots=True)
class Values:
    """Where a block's values come from.

    Attributes:
        layer: The projection, by name in the block.
        rows: Rows of its matrix per key-value head.
    """

    layer: str
    rows: tuple[slice, ...]


@torch.no_grad()
def find_values(decoder: Decoder, block: nn.Module, index: int) -> Values | None:
    """The linear layer of a block whose output the values are, found by running the block on noise.

    Args:
        decoder: The walk.
        block: From ``decoder.block(index)``.
        index: Which block it is.

    Returns:
        ``None`` where there is none, or the block attends in a way that cannot be recorded: see the module.
    """
    outputs: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_hook(lambda _, x, y, name=name: outputs.__setitem__(name, y))
        for name, module in block.named_modules()
        if isinstance(module, LINEARS)
    ]
    noise = torch.randn(1, 2, decoder.outside.width, generator=torch.Generator().manual_seed(0))
    try:
        attention = _record(decoder, block, index, noise)
    finally:
        for handle in handles:
            handle.remove()
    for name, y in outputs.items() if attention else ():
        assert attention is not None
        rows = _rows(attention.value, y)
        if rows is not None:
            return Values(name, rows)
    return None


def value_moments(
    decoder: Decoder, index: int, stream: Stream, values: Values, reference: Stream | None = None
) -> list[Moments]:
    """Moments of the averaged inputs A x of a value projection, per key-value head; see the module.

    Args:
        decoder: The walk.
        index: Which block the streams are at.
        stream: Where inputs and attention come from.
        values: From ``find_values``.
        reference: Gather cross moments with this stream's averaged inputs too.
    """
    features = matrix_of(stream.block.get_submodule(values.layer)).shape[1]
    found = [Moments(features, cross=reference is not None) for _ in values.rows]
    for part in decoder.batches(stream.hidden):
        here, x = _recorded_with_input(decoder, index, stream, part, values.layer)
        there = None if reference is None else _recorded_with_input(decoder, index, reference, part, values.layer)
        for head in range(here.query.shape[1]):
            other = None if there is None else there[0].averaged(head, there[1])
            found[head // here.shared].add(here.averaged(head, x), reference=other)
    return found


def _recorded_with_input(
    decoder: Decoder, index: int, stream: Stream, part: slice, layer: str
) -> tuple[Attention, torch.Tensor]:
    """One batch's attention, and what the value projection is given, [B, T, K]."""
    inputs: list[torch.Tensor] = []
    module = stream.block.get_submodule(layer)
    handle = module.register_forward_pre_hook(lambda _, x: inputs.append(x[0]))
    try:
        attention = _record(decoder, stream.block, index, stream.hidden[part])
    finally:
        handle.remove()
    assert attention is not None, "the block attended when its values were looked for"
    return attention.thinned(), inputs[0].reshape(len(attention.query), attention.value.shape[2], -1)


def _record(decoder: Decoder, block: nn.Module, index: int, hidden: torch.Tensor) -> Attention | None:
    """The block's call of attention on one batch, computed no further; ``None`` if it makes none we understand."""
    calls: list[Attention] = []
    with _listening(block, calls), suppress(Stop):
        decoder.forward(block, index, hidden)
    return calls[0] if calls else None


@contextmanager
def _listening(block: nn.Module, calls: list[Attention]) -> Iterator[None]:
    """Inside, the block's attention notes its arguments and stops the forward pass."""

    def attend(
        module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        attention_mask: torch.Tensor | None, scaling: float | None = None, softcap: float | None = None,
        **kwargs: object,
    ) -> None:  # fmt: skip
        extra = any(kwargs.get(name) is not None for name in ("s_aux", "head_mask", "position_bias"))
        if not extra and (attention_mask is None or attention_mask.ndim == 4):
            mask = _causal(query, key) if attention_mask is None and _is_causal(module, kwargs) else attention_mask
            scale = query.shape[-1] ** -0.5 if scaling is None else scaling
            calls.append(Attention(query, key, value, mask, scale, softcap))
        raise Stop

    names = {config._attn_implementation for m in block.modules() if (config := getattr(m, "config", None))}
    own = ALL_ATTENTION_FUNCTIONS._local_mapping
    before = dict(own)
    own.update(dict.fromkeys(names, attend))
    try:
        yield
    finally:
        own.clear()
        own.update(before)


def _is_causal(module: nn.Module, given: dict[str, object]) -> bool:
    """What no mask means, as transformers' sdpa function has it."""
    said = given.get("is_causal")
    return bool(getattr(module, "is_causal", True) if said is None else said)


def _causal(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """What token t sees: 0 to t; bool [1, 1, T, S]."""
    return torch.ones(1, 1, query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()


def _rows(value: torch.Tensor, y: torch.Tensor) -> tuple[slice, ...] | None:
    """Rows of the matrix that made y [..., N] to which each head of value [1, J, S, d] belongs, if it is a view."""
    same = value.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()
    if not same or not y.is_contiguous() or value.stride(3) != 1 or value.stride(2) != y.shape[-1]:
        return None
    first = value.storage_offset() - y.storage_offset()
    starts = [first + head * value.stride(1) for head in range(value.shape[1])]
    if any(start < 0 or start + value.shape[3] > y.shape[-1] for start in starts):
        return None
    return tuple(slice(start, start + value.shape[3]) for start in starts)
