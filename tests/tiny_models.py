"""Tiny random models that the tests write to disk; no network, under a second each."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, OPTConfig, PretrainedConfig


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


def save_random(
    config: PretrainedConfig, folder: Path, *, dtype: torch.dtype = torch.float32, seed: int = 0, shard: str = "5GB"
) -> Path:
    """Write a randomly initialised model of any architecture."""
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder
