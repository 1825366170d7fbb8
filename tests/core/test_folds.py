"""Folds change no output, whatever the factors; inexact ones are left out, unknown models refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPTNeoConfig, LlamaConfig

from dareq_edge.errors import UnsupportedArchitectureError
from dareq_edge.folds import FOLDS, Fold, apply_fold, folds
from dareq_edge.matrix import matrix_of
from tiny_models import tiny_opt
from tolerances import FOLD

COMMON = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}


def tiny(family: str, **changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    names: dict[str, object] = {"ffn_dim": 96, "activation_function": "relu", "word_embed_proj_dim": 64}

    settings = COMMON | (names if family in ("opt", "gpt2") else {})
    if family == "opt":
        settings = {k: v for k, v in settings.items() if k not in ("num_key_value_heads", "head_dim")}
    config = AutoConfig.for_model(family, **(settings | changes))
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():  # biases and gains that matter
            if p.ndim == 1:
                p.add_(0.3 * torch.randn(p.shape)).clamp_min_(-0.8 if "bias" in name else 0.2)
    return model


def layers(model: torch.nn.Module) -> torch.nn.ModuleList:
    return next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 2)


@pytest.mark.parametrize("family", sorted(FOLDS))
def test_exact_for_any_factors(family: str) -> None:
    model = tiny(family)
    ids = torch.randint(3, 96, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = model(ids, use_cache=False).logits
        for block in layers(model):
            found = folds(model.config, block)
            assert found
            for fold in found:
                before = {n: p.clone() for n, p in block.named_parameters()}
                k = matrix_of(block.get_submodule(fold.after[0])).shape[1]
                names = apply_fold(block, fold, torch.empty(k).uniform_(0.2, 5))
                changed = {n for n, p in block.named_parameters() if not torch.equal(p, before[n])}
                assert changed == set(names)
                got = model(ids, use_cache=False).logits
                assert float((got - want).abs().max()) < FOLD * float(want.abs().max()), fold


def before(found: list[Fold]) -> list[str]:
    return [fold.before for fold in found]


def test_what_is_left_out(tmp_path: Path) -> None:
    shared = tiny("llama", num_key_value_heads=2)
    assert before(folds(shared.config, layers(shared)[0])) == [
        "input_layernorm", "post_attention_layernorm", "mlp.up_proj",
    ]  # fmt: skip
    post = AutoModelForCausalLM.from_pretrained(tiny_opt(tmp_path / "post", do_layer_norm_before=False))
    assert before(folds(post.config, layers(post)[0])) == ["self_attn.v_proj", "fc1"]
    gelu = tiny("opt", activation_function="gelu")
    assert "fc1" not in before(folds(gelu.config, layers(gelu)[0]))


def test_unknown_architecture() -> None:
    config = GPTNeoConfig()
    with pytest.raises(UnsupportedArchitectureError, match=r"not known for model type 'gpt_neo' .*gptq"):
        folds(config, torch.nn.Identity())
    assert LlamaConfig().model_type in FOLDS
