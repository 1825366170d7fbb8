"""Facts of a model: from transformers' own modules, and the short cut through what is written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
)

from dareq_edge.allocation.facts import Facts, Matrix, facts_from, facts_of_config
from dareq_edge.allocation.known_shapes import KNOWN, known_matrices
from dareq_edge.errors import CheckpointError, UnsupportedArchitectureError
from tiny_models import rotary_configs

OPT = {"vocab_size": 96, "hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
SIZES = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 3}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}


def configs() -> dict[str, PretrainedConfig]:
    """At least one configuration of every architecture that is written down."""
    own = rotary_configs() | {
        "opt": OPTConfig(**OPT, word_embed_proj_dim=64, max_position_embeddings=128),
        "opt with projections": OPTConfig(**OPT, word_embed_proj_dim=48, max_position_embeddings=128),
        "opt untied": OPTConfig(**OPT, word_embed_proj_dim=48, tie_word_embeddings=False),
        "gpt2": GPT2Config(vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=32),
        "gpt2 inner": GPT2Config(vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=32, n_inner=100),
        "llama tied": LlamaConfig(**SIZES, num_attention_heads=4, tie_word_embeddings=True),
        "llama head_dim": LlamaConfig(**SIZES, **HEADS, head_dim=8),
        "granite": GraniteConfig(**SIZES, **HEADS),
        "olmo2": Olmo2Config(**SIZES, **HEADS),
        "gemma2": Gemma2Config(**SIZES, **HEADS, head_dim=8),
        "phi3": Phi3Config(**SIZES, **HEADS, pad_token_id=0),
    }
    return own


@pytest.mark.parametrize("name", configs())
def test_what_is_written_down_is_what_transformers_builds(name: str, tmp_path: Path) -> None:
    config = configs()[name]
    config.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    known = known_matrices(raw)
    assert known is not None
    facts = facts_of_config(tmp_path)
    assert facts == facts_of_config(tmp_path, quick=True) == facts_of_config(tmp_path / "config.json")
    assert facts == facts_from(known, config.model_type)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    for m in facts.matrices:
        size = model.get_submodule(m.name).weight.numel()
        assert m.size == size, m
        assert (m.block is None) == (f".{m.block}." not in f".{m.name}.")


def test_every_written_architecture_is_compared() -> None:
    assert {c.model_type for c in configs().values()} == set(KNOWN)


def test_facts_of_a_block() -> None:
    facts = facts_of_config(configs()["opt"])
    assert facts.blocks == 3
    assert facts.architecture == "opt"
    assert [m.name.split(".", 4)[-1] for m in facts.of_block(1)][-2:] == ["fc1", "fc2"]
    assert facts.of_block(2)[-1] == Matrix("model.decoder.layers.2.fc2", 64, 128, 2)
    assert facts.parameters(1) == 4 * 64 * 64 + 2 * 64 * 128
    assert [m.name for m in facts.matrices if m.block is None] == [
        "model.decoder.embed_tokens",
        "model.decoder.embed_positions",
    ]


@pytest.mark.parametrize("missing", ["hidden_size", "num_hidden_layers", "vocab_size", "head_dim"])
def test_a_config_that_leaves_something_out_is_left_to_transformers(missing: str) -> None:
    raw = configs()["qwen3"].to_dict()
    assert known_matrices(raw) is not None
    del raw[missing]
    assert known_matrices(raw) is None
    assert known_matrices({"model_type": "bloom"}) is None


@pytest.mark.parametrize("bad", [0, -1, "64", True, None, 6.4])
def test_dimensions_must_be_numbers(bad: object) -> None:
    assert known_matrices(configs()["opt"].to_dict() | {"hidden_size": bad}) is None


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    for quick in (False, True):
        with pytest.raises(CheckpointError, match=r"no config\.json .*give a Hugging Face model folder"):
            facts_of_config(tmp_path, quick=quick)
    (tmp_path / "config.json").write_text("{")
    for quick in (False, True):
        with pytest.raises(CheckpointError, match=r"not valid JSON .*get the file again"):
            facts_of_config(tmp_path, quick=quick)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UnsupportedArchitectureError, match="model type 'vit'"):
        facts_of_config(tmp_path, quick=True)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="no JSON object"):
        facts_of_config(tmp_path, quick=True)


def test_blocks_without_matrices_are_refused() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="'x' has 2 decoder blocks, of which 1 hold"):
        facts_from((Matrix("a", 1, 1, 1),), "x")
    with pytest.raises(UnsupportedArchitectureError, match="0 decoder blocks"):
        Facts((Matrix("a", 1, 1, None),), 0, "x")
