"""Attention moments: the attention and the rows that are found are those of the model's own eager code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, FalconConfig

from dareq_edge.blockwise.attention import Values, find_values, value_moments
from dareq_edge.blockwise.gather import Stream
from dareq_edge.blockwise.walk import Decoder
from dareq_edge.matrix import matrix_of
from tiny_models import save_random
from tiny_sources import make, open_source
from tolerances import ATTENTION_BF16, ATTENTION_MOMENTS

OUTPUT = {
    "opt": "self_attn.out_proj",
    "llama": "self_attn.o_proj",
    "mistral": "self_attn.o_proj",
    "qwen2": "self_attn.o_proj",
    "qwen3": "self_attn.o_proj",
    "gemma2": "self_attn.o_proj",
    "gemma3": "self_attn.o_proj",
    "biogpt": "self_attn.out_proj",
    "gpt2": "attn.c_proj",
    "gpt-neox": "attention.dense",
    "phi": "self_attn.dense",
    "phi3": "self_attn.o_proj",
}
"""Per family, the layer that is given the attention's result."""
BLOCK = 1


@dataclass
class Eager:
    """Block ``BLOCK`` of the model run by transformers: hidden states, attention float64 [B, H, T, T], x, result."""

    hidden: torch.Tensor
    attention: torch.Tensor
    x: torch.Tensor
    result: torch.Tensor


def ids(seed: int) -> torch.Tensor:
    return torch.randint(3, 96, (3, 20), generator=torch.Generator().manual_seed(seed))


def eager(folder: Path, path: str, layer: str, output: str, tokens: torch.Tensor) -> Eager:
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    seen: dict[str, torch.Tensor] = {}
    block = model.get_submodule(path)
    for name in (layer, output):
        block.get_submodule(name).register_forward_pre_hook(
            lambda _, x, name=name: seen.__setitem__(name, x[0].double())
        )
    block.register_forward_pre_hook(
        lambda _, x, given: seen.__setitem__("hidden", x[0] if x else given["hidden_states"]), with_kwargs=True
    )
    with torch.no_grad():
        attention = model(tokens, use_cache=False, output_attentions=True).attentions[BLOCK]
    b, h, t, _ = attention.shape
    return Eager(seen["hidden"], attention.double(), seen[layer].reshape(b, t, -1), seen[output].reshape(b, t, h, -1))


def found(folder: Path) -> tuple[Decoder, nn.Module, Values]:
    decoder = Decoder.open(open_source(folder), batch=2)
    block = decoder.block(BLOCK)
    values = find_values(decoder, block, BLOCK)
    assert values is not None
    return decoder, block, values


@pytest.mark.parametrize("family", OUTPUT)
def test_rows_and_attention_give_the_models_result(tmp_path: Path, family: str) -> None:
    folder = make(tmp_path / "m", family)
    decoder, block, values = found(folder)
    want = eager(folder, decoder.path(BLOCK), values.layer, OUTPUT[family], ids(0))
    layer = block.get_submodule(values.layer)
    weight, bias = matrix_of(layer).double(), layer.bias
    shared = want.attention.shape[1] // len(values.rows)
    for head in range(want.attention.shape[1]):
        rows = values.rows[head // shared]
        value = want.x @ weight[rows].T + (0 if bias is None else bias[rows])
        got = want.attention[:, head] @ value
        assert (got - want.result[:, :, head]).abs().max() <= ATTENTION_MOMENTS * want.result.abs().max()


def literal(stream: Eager, reference: Eager | None, heads: int) -> list[torch.Tensor]:
    """Mean over tokens and over the query heads of each key-value head of (A' x')(A x)ᵀ, float64."""
    other = reference or stream
    out = []
    for group in torch.arange(stream.attention.shape[1]).chunk(heads):
        left = torch.cat([(other.attention[:, h] @ other.x).flatten(0, 1) for h in group])
        right = torch.cat([(stream.attention[:, h] @ stream.x).flatten(0, 1) for h in group])
        out.append(left.T @ right / len(left))
    return out


@pytest.mark.parametrize("family", OUTPUT)
def test_moments_are_those_of_eager_attention(tmp_path: Path, family: str) -> None:
    folder = make(tmp_path / "m", family)
    decoder, _, values = found(folder)
    runs = [eager(folder, decoder.path(BLOCK), values.layer, OUTPUT[family], ids(seed)) for seed in (0, 1)]
    streams = [Stream(decoder.block(BLOCK), run.hidden) for run in runs]
    moments = value_moments(decoder, BLOCK, streams[0], values, streams[1])
    assert len(moments) == len(values.rows)
    second, cross = literal(runs[0], None, len(moments)), literal(runs[0], runs[1], len(moments))
    for got, h, c in zip(moments, second, cross, strict=True):
        assert (got.second - h).abs().max() <= ATTENTION_MOMENTS * h.abs().max()
        assert (got.cross - c).abs().max() <= ATTENTION_MOMENTS * h.abs().max()
    alone = value_moments(decoder, BLOCK, streams[0], values)
    assert all(torch.equal(a.second, b.second) for a, b in zip(alone, moments, strict=True))


def test_bfloat16_attends_alike_and_sums_in_float32(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "llama")
    decoder, _, values = found(folder)
    run = eager(folder, decoder.path(BLOCK), values.layer, OUTPUT["llama"], ids(0))
    half = Decoder.open(open_source(folder), compute="bfloat16")
    got = value_moments(half, BLOCK, Stream(half.block(BLOCK), run.hidden), values)
    for moments, want in zip(got, literal(run, None, len(got)), strict=True):
        assert (moments.second - want).abs().max() <= ATTENTION_BF16 * want.abs().max()
        assert torch.linalg.eigvalsh(moments.second.double()).min() >= -1e-6 * want.abs().max()


def test_of_long_windows_some_queries_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dareq_edge.blockwise.attention._QUERIES", 5)  # of 20: positions 3, 7, 11, 15, 19
    folder = make(tmp_path / "m", "mistral")
    decoder, block, values = found(folder)
    run = eager(folder, decoder.path(BLOCK), values.layer, OUTPUT["mistral"], ids(0))
    got = value_moments(decoder, BLOCK, Stream(block, run.hidden), values)
    run.attention = run.attention[:, :, 3::4]
    for moments, want in zip(got, literal(run, None, len(got)), strict=True):
        assert (moments.second - want).abs().max() <= ATTENTION_MOMENTS * want.abs().max()


def test_the_block_attends_as_before_afterwards(tmp_path: Path) -> None:
    decoder, block, _ = found(make(tmp_path / "m", "gemma3"))
    hidden = torch.randn(2, 9, decoder.outside.width, generator=torch.Generator().manual_seed(0))
    want = decoder.forward(decoder.block(BLOCK), BLOCK, hidden)
    assert torch.equal(decoder.forward(block, BLOCK, hidden), want)


def test_attention_that_does_not_go_through_the_interface_is_left_alone(tmp_path: Path) -> None:
    sizes = {"vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    folder = save_random(FalconConfig(**sizes, alibi=False, multi_query=False), tmp_path / "m")
    decoder = Decoder.open(open_source(folder))
    assert find_values(decoder, decoder.block(1), 1) is None
