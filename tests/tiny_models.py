"""Tiny random models that the tests write to disk; no network, under a second each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BioGptConfig,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)


def tiny_opt(folder: Path, *, dtype: torch.dtype = torch.float32, seed: int = 0, **changes: object) -> Path:
    """A two-layer OPT of hidden 64 whose weights are large enough for peaked, stable predictions."""
    settings: dict[str, object] = {
        "vocab_size": 96,
        "hidden_size": 64,
        "word_embed_proj_dim": 64,
        "ffn_dim": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        "pad_token_id": 1,
        "bos_token_id": 2,
        "eos_token_id": 2,
        "init_std": 0.2,
    }
    return save_random(OPTConfig(**(settings | changes)), folder, dtype=dtype, seed=seed)


TRANSPOSED = GPT2Config(  # its layers are Conv1D
    vocab_size=96,
    n_embd=64,
    n_layer=2,
    n_head=4,
    n_positions=128,
    initializer_range=0.2,
    bos_token_id=2,
    eos_token_id=2,
)
SCALED_BY_TENSOR = Gemma3TextConfig(  # and a window shorter than the tests' texts
    vocab_size=96,
    hidden_size=72,  # sqrt(72) is no power of two: rounding it shows
    intermediate_size=100,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    sliding_window=6,
    layer_types=["sliding_attention", "full_attention"],
    max_position_embeddings=128,
    initializer_range=0.2,
)
SCALED_BY_NUMBER = BioGptConfig(
    vocab_size=96,
    hidden_size=72,
    intermediate_size=100,
    num_hidden_layers=2,
    num_attention_heads=9,
    max_position_embeddings=128,
    initializer_range=0.2,
)
SPECIAL = {"gpt2": TRANSPOSED, "gemma3": SCALED_BY_TENSOR, "biogpt": SCALED_BY_NUMBER}
"""Architectures whose linear layers or token table are not torch's own."""


def save_random(
    config: PretrainedConfig, folder: Path, *, dtype: torch.dtype = torch.float32, seed: int = 0, shard: str = "5GB"
) -> Path:
    """Write a randomly initialised model of any architecture."""
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def rotary_configs() -> dict[str, PretrainedConfig]:
    """Architectures with rotary embeddings or RMSNorm in each form that transformers has."""
    common: dict[str, Any] = {
        "vocab_size": 96,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
    }
    grouped = common | {"num_key_value_heads": 2}
    stretched = {"factor": 4.0, "original_max_position_embeddings": 16}
    llama3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0} | stretched
    return {
        "llama3": LlamaConfig(**grouped, rope_scaling=llama3),
        "yarn": LlamaConfig(**grouped, rope_scaling={"rope_type": "yarn"} | stretched),
        "mistral": MistralConfig(**grouped, sliding_window=6),  # shorter than the tests' texts
        "qwen2": Qwen2Config(**grouped),
        "qwen3": Qwen3Config(**grouped, head_dim=16),
        "smollm3": SmolLM3Config(**grouped, no_rope_layers=[1, 0], pad_token_id=0),
        "phi": PhiConfig(**grouped, partial_rotary_factor=0.5),
        "neox": GPTNeoXConfig(**common, rotary_pct=0.5),
        "gemma": GemmaConfig(**grouped, head_dim=16),
        "gemma3": SCALED_BY_TENSOR,
    }


def tiny_llama(folder: Path) -> Path:
    """A two-layer Llama: rotary embeddings, RMSNorm, two queries per key, an own head."""
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        tie_word_embeddings=False,
    )
    return save_random(config, folder)
