"""Walking block by block: the blocks in a row do what the model does, for every family, and hold little in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig

from dareq_edge.blockwise.gather import Stream, observe
from dareq_edge.blockwise.groups import input_groups
from dareq_edge.blockwise.walk import Decoder
from dareq_edge.errors import UnsupportedArchitectureError
from tiny_models import save_random
from tiny_sources import FAMILIES, OPTS, SIZES, make, open_source, some_ids
from tolerances import EXPORT_FP32, WALK_BF16


def walk(decoder: Decoder, ids: torch.Tensor) -> torch.Tensor:
    hidden = decoder.embed(ids)
    for i in range(decoder.count):
        decoder.advance(decoder.block(i), i, hidden)
    return torch.cat(list(decoder.finish(hidden)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("family", [*OPTS, *FAMILIES])
def test_blocks_in_a_row_are_the_model(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    source = make(tmp_path / "m", family, dtype)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    with torch.no_grad():
        want = model(some_ids(), use_cache=False).logits
    got = walk(Decoder.open(open_source(source), batch=2), some_ids())  # the last batch is smaller
    assert got.shape == want.shape
    assert (got - want).abs().max() <= EXPORT_FP32 * want.abs().max()


@pytest.mark.parametrize("family", ["opt", "gemma3"])
def test_bfloat16_is_near(tmp_path: Path, family: str) -> None:
    source = open_source(make(tmp_path / "m", family))
    want = walk(Decoder.open(source), some_ids())
    got = walk(Decoder.open(source, compute="bfloat16"), some_ids())
    assert 0 < (got - want).abs().max() <= WALK_BF16 * want.abs().max()


def test_a_resumed_walk_needs_no_embedding(tmp_path: Path) -> None:
    source = open_source(make(tmp_path / "m", "gemma3"))
    decoder = Decoder.open(source)
    hidden = decoder.embed(some_ids())
    block = decoder.block(0)
    want = decoder.forward(block, 0, hidden)
    assert torch.equal(Decoder.open(source).forward(block, 0, hidden), want)


def resident(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.device.type != "meta")


def test_weights_are_forgotten(tmp_path: Path) -> None:
    decoder = Decoder.open(open_source(make(tmp_path / "m", "llama-tied")))
    model = decoder.skeleton.model
    assert resident(model) == 0
    hidden = decoder.embed(some_ids())
    decoder.advance(decoder.block(1), 1, hidden)
    assert resident(model) == 0
    assert list(decoder.finish(hidden))
    assert resident(model) == 0
    with pytest.raises(ZeroDivisionError), decoder.skeleton.surroundings(head=True):
        assert resident(model) == 96 * 64 + 64  # the shared table once, and the final norm
        raise ZeroDivisionError
    assert resident(model) == 0


WANT_GROUPS = {
    "opt": [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.out_proj"], ["fc1"], ["fc2"]],
    "llama": [
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        ["self_attn.o_proj"],
        ["mlp.gate_proj", "mlp.up_proj"],
        ["mlp.down_proj"],
    ],
    "gpt2": [["attn.c_attn"], ["attn.c_proj"], ["mlp.c_fc"], ["mlp.c_proj"]],
}


@pytest.mark.parametrize("family", WANT_GROUPS)
def test_groups(tmp_path: Path, family: str) -> None:
    decoder = Decoder.open(open_source(make(tmp_path / "m", family)))
    groups = input_groups(decoder, decoder.block(1), 1)
    assert groups == WANT_GROUPS[family]


@pytest.mark.parametrize("family", [*OPTS, *FAMILIES])
def test_every_planned_layer_of_the_blocks_is_in_one_group(tmp_path: Path, family: str) -> None:
    source = open_source(make(tmp_path / "m", family))
    decoder = Decoder.open(source)
    found = [
        f"{decoder.path(i)}.{name}"
        for i in range(decoder.count)
        for group in input_groups(decoder, decoder.block(i), i)
        for name in group
    ]
    assert sorted(found) == sorted(name for name in source.plan if name.startswith(decoder.skeleton.path))


def test_inputs_are_what_the_layers_are_given(tmp_path: Path) -> None:
    folder = make(tmp_path / "m", "llama")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    want: list[torch.Tensor] = []
    layer = model.model.layers[1].mlp.down_proj
    layer.register_forward_pre_hook(lambda _, x: want.append(x[0]))
    with torch.no_grad():
        model(some_ids(2), use_cache=False)
    decoder = Decoder.open(open_source(folder))
    hidden = decoder.embed(some_ids(2))
    decoder.advance(decoder.block(0), 0, hidden)
    block = decoder.block(1)
    got = decoder.inputs(block, 1, hidden, ["mlp.down_proj", "self_attn.q_proj"])
    assert list(got) == ["self_attn.q_proj", "mlp.down_proj"]
    assert (got["mlp.down_proj"] - want[0]).abs().max() <= EXPORT_FP32 * want[0].abs().max()
    assert not block.mlp.down_proj._forward_pre_hooks


def test_a_mixture_of_experts_is_refused(tmp_path: Path) -> None:
    config = MixtralConfig(**SIZES, num_local_experts=4)
    decoder = Decoder.open(open_source(save_random(config, tmp_path / "m")))
    with pytest.raises(UnsupportedArchitectureError, match=r"block_sparse_moe.* runs \d times .*; use a recipe"):
        input_groups(decoder, decoder.block(0), 0)


@pytest.mark.parametrize("family", ["opt", "llama", "gpt2", "phi"])
def test_one_pass_shows_all_inputs_and_the_end(tmp_path: Path, family: str) -> None:
    decoder = Decoder.open(open_source(make(tmp_path / "m", family)), batch=2)
    hidden = decoder.embed(some_ids())
    block, before = decoder.block(1), hidden.clone()
    names = [group[0] for group in input_groups(decoder, block, 1)]
    inputs, after = observe(decoder, 1, Stream(block, hidden), names)
    assert torch.equal(hidden, before)
    assert list(inputs) == names
    for name in names:
        parts = [decoder.inputs(block, 1, hidden[part], [name])[name] for part in decoder.batches(hidden)]
        assert torch.equal(inputs[name].flatten(0, 1), torch.cat([x.flatten(0, -2) for x in parts]))
    decoder.advance(block, 1, hidden)
    assert torch.equal(after, hidden)
