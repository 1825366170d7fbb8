"""How GroupQueryAttention and the cache enter a captured transformers model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dareq_edge.errors import UnsupportedArchitectureError
from dareq_export.capture.modules import Attribute

IMPLEMENTATION = "dareq_gqa"
MASKED = -1e9  # finite, so that a row whose columns are all masked stays a number


@dataclass
class AttentionTrace:
    """What one traced forward pass hands to and collects from the attention function."""

    seqlens_k: torch.Tensor  # int32 [B], total length - 1 in every row: padding is the bias's business
    total_length: torch.Tensor  # int32 scalar
    past: list[tuple[torch.Tensor, torch.Tensor]]
    present: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


class PassThroughCache(Cache):  # type: ignore[misc]  # transformers ships no types
    """A cache whose ``update`` returns the new keys and values alone: GroupQueryAttention appends them itself."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.layers: list[object] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, cache_kwargs: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the arguments unchanged."""
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Length of the past."""
        return self.length

    def get_mask_sizes(self, cache_position: torch.Tensor, layer_idx: int) -> tuple[int, int]:
        """(key length, offset); only reached by models that build a mask although one was given."""
        return self.length + cache_position.shape[0], 0

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        """-1: unbounded."""
        return -1

    @property
    def is_compileable(self) -> bool:
        """False: there is nothing to compile."""
        return False


def attention_bias(attention_mask: torch.Tensor, length: int) -> torch.Tensor:
    """[B, T] mask → [B, 1, S, T] bias, 0 on visible columns and MASKED on padding, the same in each of S rows.

    Causality is GroupQueryAttention's own; T is the total length, not the cache buffer's.
    """
    batch, total = attention_mask.shape
    hidden = (1 - attention_mask).to(torch.float32) * MASKED
    return hidden[:, None, None, :].expand(batch, 1, length, total)


def _emit(
    trace: AttentionTrace, module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    bias: torch.Tensor, scaling: float | None, window: int | None, softcap: float | None,
) -> torch.Tensor:  # fmt: skip
    """Emit one GroupQueryAttention; query [B, H, S, D], key and value [B, KV, S, D] → [B, S, H, D]."""
    batch, heads, length, head_dim = query.shape
    if head_dim % 8:
        raise UnsupportedArchitectureError(
            f"attention heads are {head_dim} wide; onnxruntime's GroupQueryAttention takes multiples of 8 only"
        )
    layer: int = module.layer_idx  # type: ignore[assignment]  # every transformers attention module has one
    past_key, past_value = trace.past[layer]
    total = bias.shape[-1]
    flat = [t.transpose(1, 2).reshape(batch, length, -1) for t in (query, key, value)]
    attrs: dict[str, Attribute] = {
        "num_heads": heads,
        "kv_num_heads": key.shape[1],
        "scale": float(scaling if scaling is not None else head_dim**-0.5),
        "do_rotary": 0,
        "local_window_size": -1 if window is None else window,
        "softcap": float(softcap or 0.0),
    }
    cache_shape = (batch, key.shape[1], total, head_dim)
    out, present_key, present_value = torch.onnx.ops.symbolic_multi_out(
        "com.microsoft::GroupQueryAttention",
        (*flat, past_key, past_value, trace.seqlens_k, trace.total_length, None, None, None, bias),
        attrs,
        dtypes=(torch.float32,) * 3,
        shapes=((batch, length, heads * value.shape[-1]), cache_shape, cache_shape),
        version=1,
    )
    trace.present[layer] = (present_key, present_value)
    return out.reshape(batch, length, heads, -1)


@contextmanager
def group_query_attention(trace_of: list[AttentionTrace]) -> Iterator[str]:
    """Register our attention function with transformers for the length of the block.

    Args:
        trace_of: A one-element mailbox; the forward pass being traced puts its AttentionTrace there.

    Yields:
        The name to give as ``attn_implementation``.
    """

    def attend(
        module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        attention_mask: torch.Tensor | None, scaling: float | None = None, dropout: float = 0.0,
        sliding_window: int | None = None, softcap: float | None = None, **kwargs: object,
    ) -> tuple[torch.Tensor, None]:  # fmt: skip
        extra = next((name for name in ("s_aux", "head_mask", "position_bias") if kwargs.get(name) is not None), None)
        if attention_mask is None or attention_mask.dim() != 4 or extra:
            raise UnsupportedArchitectureError(
                f"{type(module).__name__} calls attention with {extra or 'a mask of its own'}, which "
                "GroupQueryAttention cannot express; this architecture needs another export"
            )
        (trace,) = trace_of
        return _emit(trace, module, query, key, value, attention_mask, scaling, sliding_window, softcap), None

    ALL_ATTENTION_FUNCTIONS.register(IMPLEMENTATION, attend)
    try:
        yield IMPLEMENTATION
    finally:
        ALL_ATTENTION_FUNCTIONS._global_mapping.pop(IMPLEMENTATION, None)
