"""How large a model's file may be where a device has so much memory for the process that runs it.

Measured with ``examples/benchmarks/bench_memory.py`` on opt-mini and SmolLM2-135M (docs/allocation.md): the
most that a Python process with dareq_runtime holds is below

    100 MB (interpreter, libraries, session, tokenizer) + 1.6 times the file + keys and values of the tokens in use
"""

from __future__ import annotations

from typing import Any

from dareq_edge.errors import AllocationError

PROCESS_BYTES = 100_000_000
"""Interpreter, libraries, session and activations."""
PER_FILE_BYTE = 1.6
"""Weights as mapped, packed again for the kernels, and looked up."""
TOKENS = 1024
"""Prompt and answer together that there shall be room for, or the model's context if that is shorter."""


def file_bytes(memory: int, config: Any, *, cache_bits: int = 32) -> int:
    """Bytes that graph and data may have.

    Args:
        memory: Bytes that the process may take.
        config: A transformers configuration.
        cache_bits: Bits of keys and values, 32 or 8.

    Raises:
        AllocationError: Nothing is left for the model.
    """
    tokens = min(TOKENS, getattr(config.get_text_config(decoder=True), "max_position_embeddings", TOKENS))
    cache = cache_bytes(config, tokens, cache_bits=cache_bits)
    left = memory - PROCESS_BYTES - cache
    if left < PER_FILE_BYTE:
        raise AllocationError(
            f"{memory / 1e6:,.0f} MB of memory leave nothing for the model: the process takes "
            f"{PROCESS_BYTES / 1e6:.0f} MB, keys and values of {tokens} tokens {cache / 1e6:,.1f} MB; allow more, or "
            "use --cache-bits 8"
        )
    return int(left / PER_FILE_BYTE)


def cache_bytes(config: Any, tokens: int, *, cache_bits: int = 32) -> int:
    """Bytes of the keys and values of so many tokens.

    Args:
        config: A transformers configuration.
        tokens: At least 1.
        cache_bits: Bits of each, 32 or 8.
    """
    text = config.get_text_config(decoder=True)
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * width * tokens * cache_bits // 8)
