"""Learned positions in 8 and 4 bits: planned, looked up under the model's own forward, made alike by every recipe."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, BartConfig, LlamaConfig, PretrainedConfig, WhisperConfig
from transformers.models.bart.modeling_bart import BartLearnedPositionalEmbedding
from transformers.models.opt.modeling_opt import OPTLearnedPositionalEmbedding

from dareq_edge import DareqConfig, apply_dareq
from dareq_edge.blockwise.walk import Decoder
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.comparison.floats import linear_modules
from dareq_edge.embeddings import check_lookup
from dareq_edge.errors import CheckpointError, UnsupportedArchitectureError
from dareq_edge.lookup import QuantLookup
from dareq_edge.plan import QuantOptions, plan_model
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.quantized import read_plan, read_quantized
from dareq_edge.quantizers import build
from dareq_edge.quantizers.entquant import LAMBDA
from dareq_edge.recipes import Source, names
from dareq_edge.recipes import build as build_recipe
from dareq_edge.recipes._outside import outside_changes
from dareq_edge.reference import load_reference
from dareq_edge.spec import QuantSpec
from tiny_models import SCALED_BY_NUMBER, TRANSPOSED, tiny_opt

POSITIONS = "model.decoder.embed_positions"
EIGHT = QuantSpec(8, None, "float32", "dareq")


def empty(config: PretrainedConfig) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config)
    return model


def opt(tmp_path: Path) -> nn.Module:
    model: nn.Module = AutoModelForCausalLM.from_pretrained(tiny_opt(tmp_path / "m")).eval()
    return model


# -- plan ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "table"),
    [(None, POSITIONS), (TRANSPOSED, "transformer.wpe"), (SCALED_BY_NUMBER, "biogpt.embed_positions")],
)
def test_position_tables_are_planned_when_asked_for(
    tmp_path: Path, config: PretrainedConfig | None, table: str
) -> None:
    model = empty(config or AutoConfig.from_pretrained(tiny_opt(tmp_path / "m")))
    without = plan_model(model, QuantOptions())
    plan = plan_model(model, QuantOptions(position_bits=8))
    assert plan == without | {table: EIGHT}
    assert list(plan) == [n for n, _ in model.named_modules() if n in plan]
    other = plan_model(model, QuantOptions(position_bits=4, group_size=32, scale_dtype="bfloat16", method="rtn"))
    assert other[table] == QuantSpec(4, 32, "bfloat16", "rtn")
    assert plan_model(model, QuantOptions(position_bits=8, skip=(table,))) == without
    assert linear_modules(model, QuantOptions(position_bits=8, skip=(table,))) == set(without)


def test_a_model_without_position_table_has_the_same_plan() -> None:
    model = empty(LlamaConfig(vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=1))
    options = QuantOptions(table_bits=8)
    assert plan_model(model, QuantOptions(table_bits=8, position_bits=8)) == plan_model(model, options)


def test_a_class_that_reads_its_weight_is_refused_by_name_and_can_be_skipped() -> None:
    config = WhisperConfig(
        vocab_size=96, d_model=32, decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=64, pad_token_id=0
    )
    model = empty(config)
    with pytest.raises(
        UnsupportedArchitectureError,
        match=rf"{POSITIONS} is a Whisper.*--skip {POSITIONS}.*--position-bits 32 \(position_bits=None in Python\)",
    ):
        plan_model(model, QuantOptions(position_bits=8))
    assert POSITIONS not in plan_model(model, QuantOptions(position_bits=8, skip=(POSITIONS,)))


class Indexes(nn.Embedding):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.weight[ids]


class Bypasses(nn.Embedding):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return nn.Embedding.forward(self, ids)


class Adds(nn.Embedding):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids) + self.weight[0]


class Deeper(Indexes):
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return super().forward(ids + 1)


class Shifts(nn.Embedding):
    @torch.no_grad()
    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(ids.to(self.weight.device) + 1)


@pytest.mark.parametrize("kind", [Indexes, Bypasses, Adds, Deeper])
def test_lookups_that_would_miss_the_packed_rows_are_refused(kind: type[nn.Embedding]) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=f"t is a {kind.__name__}, which does not leave"):
        check_lookup("t", kind(5, 4))


def test_rows_that_change_are_refused() -> None:
    with pytest.raises(UnsupportedArchitectureError, match="t is a Embedding"):
        check_lookup("t", nn.Embedding(5, 4, max_norm=1.0))


@pytest.mark.parametrize(
    "kind", [nn.Embedding, Shifts, OPTLearnedPositionalEmbedding, BartLearnedPositionalEmbedding]
)
def test_lookups_with_arithmetic_around_them_are_accepted(kind: type[nn.Embedding]) -> None:
    check_lookup("t", kind(5, 4))


# -- module ----------------------------------------------------------------------------------------------------


def replaced(old: nn.Embedding, bits: int = 8) -> QuantLookup:
    return QuantLookup.from_quantized(build("rtn")(old.weight, QuantSpec(bits)), old)


@pytest.mark.parametrize("kind", [nn.Embedding, Shifts])
def test_the_modules_own_forward_gets_dequantized_rows(kind: type[nn.Embedding]) -> None:
    old = kind(9, 20, padding_idx=1)
    new, ids = replaced(old), torch.tensor([[0, 7], [3, 3]])
    old.weight.data.copy_(new.dequantize())
    assert torch.equal(new(ids), old(ids))
    assert isinstance(new, kind)
    assert (new.num_embeddings, new.embedding_dim, new.padding_idx) == (9, 20, 1)
    assert set(new.state_dict()) == {"qweight", "scales"}
    assert list(new.parameters()) == []


@torch.no_grad()
def test_opt_positions_with_and_without_ids() -> None:
    old = OPTLearnedPositionalEmbedding(16, 32)
    new = replaced(old)
    old.weight.copy_(new.dequantize())
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    assert new.offset == 2
    assert torch.equal(new(mask), old(mask))
    assert torch.equal(new(mask, 2), old(mask, 2))
    ids = torch.tensor([[3, 4]])
    assert torch.equal(new(None, position_ids=ids), new.dequantize()[ids + 2])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("kind", [nn.Embedding, OPTLearnedPositionalEmbedding])
def test_copies_and_pickles(kind: type[nn.Embedding], again: object) -> None:
    new = replaced(kind(16, 32)).half()
    twin = again(new)  # type: ignore[operator]
    assert isinstance(twin, QuantLookup)
    assert isinstance(twin, kind)
    ids = torch.tensor([[1, 0, 1]])
    assert torch.equal(twin(ids), new(ids))
    assert new(ids).dtype == torch.float16
    twin.qweight.zero_()
    assert not torch.equal(twin(ids), new(ids))


def test_casting_keeps_the_scales() -> None:
    new = replaced(nn.Embedding(16, 32), bits=4)
    before = new.dequantize()
    assert new.bfloat16().scales.dtype == torch.float32
    assert new.weight.dtype == torch.bfloat16
    assert torch.equal(new.float().dequantize(), before)


# -- model -----------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("bits", [4, 8])
def test_logits_are_those_of_the_dequantized_table(tmp_path: Path, bits: int) -> None:
    ids = torch.tensor([[2, 17, 33, 5, 90, 41], [2, 8, 8, 61, 12, 77]])
    mask = torch.tensor([[1] * 6, [0, 0, 1, 1, 1, 1]])
    got = apply_dareq(opt(tmp_path), position_bits=bits)
    want = apply_dareq(opt(tmp_path))
    table = got.get_submodule(POSITIONS)
    assert isinstance(table, QuantLookup)
    assert isinstance(table, OPTLearnedPositionalEmbedding)
    want.get_parameter(f"{POSITIONS}.weight").copy_(table.dequantize())
    found, wanted = (m(ids, attention_mask=mask).logits for m in (got, want))
    assert torch.equal(found, wanted)


def test_a_folder_that_lost_the_table_is_refused(tmp_path: Path) -> None:
    source, config = tiny_opt(tmp_path / "float"), DareqConfig(position_bits=8)
    AutoModelForCausalLM.from_pretrained(source, quantization_config=config).save_pretrained(tmp_path / "saved")
    for folder, leaf, more in (
        (tmp_path / "saved", "scales", {}),
        (source, "weight", {"quantization_config": config}),
    ):
        tensors = load_file(folder / "model.safetensors")
        del tensors[f"{POSITIONS}.{leaf}"]
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=rf"has no tensor {POSITIONS}\.{leaf}"):
            AutoModelForCausalLM.from_pretrained(folder, **more)


def test_a_table_that_no_file_holds_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_opt(tmp_path / "m")
    tensors = load_file(source / "model.safetensors")
    del tensors[f"{POSITIONS}.weight"]
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    kind = type(empty(AutoConfig.from_pretrained(source)))
    monkeypatch.setattr(kind, "_keys_to_ignore_on_load_missing", ["embed_positions"], raising=False)
    with pytest.raises(CheckpointError, match=rf"has no tensor {POSITIONS}\.weight; .*--skip {POSITIONS}"):
        quantize_checkpoint(source, tmp_path / "q", QuantOptions(position_bits=8))


def test_bart_asks_the_table_for_its_device() -> None:
    config = BartConfig(
        vocab_size=96, d_model=32, decoder_layers=1, decoder_attention_heads=4, decoder_ffn_dim=64,
        max_position_embeddings=32, is_decoder=True, is_encoder_decoder=False,
    )  # fmt: skip
    model = apply_dareq(AutoModelForCausalLM.from_config(config).eval(), position_bits=8)
    assert torch.isfinite(model(torch.tensor([[3, 4, 5]])).logits).all()
    assert isinstance(model.get_submodule(POSITIONS), BartLearnedPositionalEmbedding)


# -- recipes ---------------------------------------------------------------------------------------------------

SMALL: dict[str, dict[str, object]] = {
    "dareq:self": {"tier": "self", "samples": 4, "sample_length": 16, "tuning": 2, "row_feedback": 2},
    "dareq:analytic": {"tier": "analytic", "probe": 4, "probe_length": 16},
    "dareq:weights": {"tier": "weights", "noise": 64},
    **{name: {} for name in names() if name != "dareq"},
    "entquant": {"table_lam": LAMBDA},  # its own default is finer than that of the matrix method
    "dareq-entropy": {"tier": "weights", "table_lam": LAMBDA},
}


@pytest.mark.parametrize("label", SMALL)
def test_every_recipe_quantizes_the_table_by_its_matrix_method(tmp_path: Path, label: str) -> None:
    source = tiny_opt(tmp_path / "m", dtype=torch.bfloat16)
    name, settings = label.split(":")[0], dict(SMALL[label])
    if name in ("gptq", "awq"):
        np.save(tmp_path / "text.npy", np.random.default_rng(0).integers(3, 96, size=600))
        settings = {"calibration": str(tmp_path / "text.npy"), "samples": 4, "sample_length": 16}
    recipe = build_recipe(name, settings)
    options = QuantOptions(table_bits=8, position_bits=8, scale_dtype="bfloat16")
    manifest = quantize_checkpoint(source, tmp_path / "q", options, recipe)
    checkpoint, chosen = Checkpoint.open(str(tmp_path / "q")), recipe.options(options)
    spec = read_plan(checkpoint)[POSITIONS]
    assert spec == chosen.position_spec
    weight = load_file(source / "model.safetensors")[f"{POSITIONS}.weight"]
    got, want = read_quantized(checkpoint, POSITIONS, spec, 64), chosen.quantizer()(weight, spec)
    assert np.array_equal(got.codes, want.codes)
    assert np.array_equal(got.scales, want.scales)
    entry = manifest.tensors[f"{POSITIONS}.weight"]
    assert (entry.bits, entry.shape, entry.bytes) == (8, (130, 64), 130 * (64 + 4))
    table = load_reference(tmp_path / "q").model.get_parameter(f"{POSITIONS}.weight")
    assert np.array_equal(table.numpy(force=True), want.dequantize())


def test_a_table_inside_a_block_is_not_forgotten() -> None:
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"bias": nn.Embedding(8, 32)})])})
    table = model.get_parameter("layers.0.bias.weight").detach()
    options = QuantOptions(position_bits=8, method="rtn")
    fake = SimpleNamespace(model=model, options=options, plan={"layers.0.bias": options.position_spec})
    fake.tensor = lambda target: table
    decoder = SimpleNamespace(skeleton=SimpleNamespace(path="layers"))
    changes = dict(outside_changes(cast("Source", fake), cast("Decoder", decoder)))
    assert set(changes) == {"layers.0.bias.weight"}
