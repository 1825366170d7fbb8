"""Tiny models of many families, opened as what a recipe reads."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import (
    Gemma2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.plan import QuantOptions, plan_model
from dareq_edge.recipes import Source
from tiny_models import SPECIAL, save_random, tiny_opt

SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
FAMILIES: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "llama-tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES, sliding_window=5),
    "qwen2": Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=5, max_window_layers=1),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "gemma2": Gemma2Config(**SIZES, head_dim=16, sliding_window=5),
    "gpt-neox": GPTNeoXConfig(**{k: v for k, v in SIZES.items() if k != "num_key_value_heads"}),
    "phi": PhiConfig(**SIZES),
    "phi3": Phi3Config(**SIZES),
    **SPECIAL,
}
OPTS = {"opt": {}, "opt-post": {"do_layer_norm_before": False, "word_embed_proj_dim": 32}}


def make(folder: Path, family: str, dtype: torch.dtype = torch.float32) -> Path:
    if family in OPTS:
        return tiny_opt(folder, dtype=dtype, num_hidden_layers=3, **OPTS[family])
    return save_random(FAMILIES[family], folder, dtype=dtype)


def open_source(folder: Path, work: Path | None = None, **options: object) -> Source:
    checkpoint = Checkpoint.open(str(folder))
    model = checkpoint.empty_model()
    chosen = QuantOptions(**options)
    work = work or folder.with_name("work")
    return Source(checkpoint, checkpoint.bind(model), plan_model(model, chosen), model, chosen, work)


def some_ids(windows: int = 5, length: int = 20) -> torch.Tensor:
    return torch.randint(3, 96, (windows, length), generator=torch.Generator().manual_seed(1))


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Everything in a folder's weight files."""
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}
