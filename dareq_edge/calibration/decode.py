"""Decoding many rows at once, a token at a time: the whole model in memory, and a cache that is written in place.

transformers' DynamicCache copies all keys and values at every step, and torch's attention kernel for CPUs works on
blocks of queries, of which there is one here: together they take most of the time. Both are replaced.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.cache_utils import Cache, DynamicLayer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, no_init_weights

from dareq_edge.calibration.draft import Memory
from dareq_edge.errors import CheckpointError, UnsupportedArchitectureError
from dareq_edge.recipes import Source

_ATTENTION = "dareq_one_query"
_STEP = 64
"""Tokens by which products over the past grow: with a new size for every token, what the allocator held grew to 5 to
9 GB in some runs of a model of 6 M parameters."""


def fast_dtype() -> torch.dtype:
    """bfloat16 where the CPU multiplies it natively, float32 elsewhere."""
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    native = any(found.get(name) for name in ("avx512_bf16", "amx_bf16", "sve_bf16", "bf16"))
    return torch.bfloat16 if native else torch.float32


class Writer:
    """The model and what it remembers of the rows it is given.

    Args:
        model: From ``writing_model``.
        length: Tokens a row can have.
    """

    def __init__(self, model: nn.Module, length: int) -> None:
        self._model = model
        self._length = length
        self._cache = self._empty()

    def reset(self) -> None:
        """Forget all rows."""
        self._cache = self._empty()

    @torch.no_grad()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [B, V] in the weights' dtype after one more token int64 [B] of every row."""
        out = self._model(input_ids=tokens[:, None], past_key_values=self._cache, use_cache=True)
        logits: torch.Tensor = out.logits[:, -1]
        return logits

    def memory(self) -> Iterator[Memory]:
        """What each layer remembers, to be kept in files."""
        for layer in self._layers():
            yield dict(zip(("keys", "values"), (t.contiguous() for t in layer.written()), strict=True))

    def restore(self, memory: Iterable[Memory]) -> None:
        """Remember what ``memory`` gave: the next step gives the same bits as without the detour."""
        self.reset()
        for layer, part in zip(self._layers(), memory, strict=True):
            layer.update(part["keys"], part["values"])

    def _layers(self) -> list[_InPlace]:
        return [layer for layer in self._cache.layers if isinstance(layer, _InPlace)]

    def _empty(self) -> Cache:
        config = self._model.config.get_text_config(decoder=True)  # type: ignore[union-attr,operator]
        return Cache(layers=[_InPlace(self._length) for _ in range(config.num_hidden_layers)])


class _InPlace(DynamicLayer):  # type: ignore[misc]  # transformers is untyped
    """One layer's keys and values [B, heads, T, d], of which the first t tokens are written."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._room, self._tokens = _rounded(length), 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, cache_kwargs: object = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self._tokens:
            batch, heads, _, width = key_states.shape
            # Keys lie feature by feature: what the product with the query wants, four times as fast in bfloat16.
            self.keys = key_states.new_zeros(batch, heads, width, self._room).transpose(2, 3)
            self.values = value_states.new_zeros(batch, heads, self._room, value_states.shape[3])
            self.is_initialized = True
        start, self._tokens = self._tokens, self._tokens + key_states.shape[2]
        self.keys[:, :, start : self._tokens] = key_states
        self.values[:, :, start : self._tokens] = value_states
        return self.written()

    def written(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.keys[:, :, : self._tokens], self.values[:, :, : self._tokens]

    def get_seq_length(self) -> int:
        return self._tokens


@contextmanager
def writing_model(source: Source, dtype: torch.dtype) -> Iterator[nn.Module]:
    """The whole model in memory, read tensor by tensor: never a second copy of it in another dtype.

    Args:
        source: Where weights come from.
        dtype: Of all weights.

    Raises:
        CheckpointError: A weight file can no longer be read, or lacks a weight.
    """
    ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_ATTENTION, sdpa_mask)
    try:
        model = _structure(source, dtype)
        state = model.state_dict()
        with torch.no_grad():
            for target in source.names:
                state[target].copy_(source.tensor(target))
        yield model
    finally:
        ALL_ATTENTION_FUNCTIONS._global_mapping.pop(_ATTENTION, None)
        ALL_MASK_ATTENTION_FUNCTIONS._global_mapping.pop(_ATTENTION, None)


def _structure(source: Source, dtype: torch.dtype) -> nn.Module:
    """The model with untouched memory; computed buffers are real, tied weights are tied."""
    choice: dict[str, Any] = {"dtype": dtype, "trust_remote_code": source.trust_remote_code}
    with no_init_weights():
        try:
            config = copy.deepcopy(source.checkpoint.config)
            model = AutoModelForCausalLM.from_config(config, attn_implementation=_ATTENTION, **choice)
        except (KeyError, ValueError):  # attention of its own, not through transformers' interface
            model = AutoModelForCausalLM.from_config(copy.deepcopy(source.checkpoint.config), **choice)
    model.generation_config = GenerationConfig()
    model.tie_weights()
    canonical = {id(t) for n, t in model.state_dict(keep_vars=True).items() if n in source.names}
    lost = [n for n, p in model.named_parameters() if id(p) not in canonical]
    if lost:
        raise CheckpointError(
            f"tensor {lost[0]!r} is missing from {source.checkpoint.folder}; a model that writes text needs every "
            "weight, get the folder again"
        )
    ready: nn.Module = model.eval().requires_grad_(False)
    return ready


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention of one query [B, heads, 1, d] to keys and values [B, kv heads, T, d], as two batched products.

    In ``_InPlace`` zeros follow them: where they come from there unchanged, T is rounded up, and the rest masked.
    """
    if s_aux is not None:
        raise UnsupportedArchitectureError(
            f"{type(module).__name__} has attention sinks, which writing text does not know; give a calibration text"
        )
    batch, heads, width = query.shape[0], query.shape[1], query.shape[3]
    kv, tokens = key.shape[1], key.shape[2]
    if key.stride(3) * key.shape[3] == value.stride(1) and key.stride(2) == 1:  # both as _InPlace lays them out
        key, value = _with_zeros(key), _with_zeros(value)
    grouped = query.reshape(batch, kv, heads // kv, width)
    scores = torch.matmul(grouped, key.transpose(2, 3)).float() * (width**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores[..., tokens:] = -torch.inf
    if attention_mask is not None:
        mask, seen = attention_mask[..., :tokens], scores[..., :tokens]  # [B or 1, 1, 1, T]: the same for all heads
        seen.copy_(seen.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else seen + mask)
    weights = torch.softmax(scores, dim=-1).to(value.dtype)
    return torch.matmul(weights, value).reshape(batch, 1, heads, -1), None


def _rounded(tokens: int) -> int:
    return -(-tokens // _STEP) * _STEP


def _with_zeros(x: torch.Tensor) -> torch.Tensor:
    """The first T tokens [B, kv heads, T, d] of what ``_InPlace`` holds, and those behind them up to whole steps."""
    return x.as_strided((*x.shape[:2], _rounded(x.shape[2]), x.shape[3]), x.stride(), x.storage_offset())
