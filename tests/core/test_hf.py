import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from dareq_edge import DareqConfig, DAREQuantLinear, apply_dareq
from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.nn import QuantEmbedding, TiedQuantLinear
from dareq_edge.plan import QuantOptions, plan_model
from dareq_edge.quantizers import build
from dareq_edge.spec import QuantSpec
from fast import slow
from tiny_models import SPECIAL, TRANSPOSED, save_random, tiny_opt
from tolerances import EIGHT_BITS

IDS = torch.tensor([[2, 17, 33, 5, 90, 41], [2, 8, 8, 61, 12, 77]])


def tiny_llama(folder, *, tied, dtype=torch.float32):
    config = LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=86, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=tied, initializer_range=0.2,
    )  # fmt: skip
    return save_random(config, folder, dtype=dtype)


MODELS = {
    "opt": tiny_opt,
    "opt-350m": lambda f: tiny_opt(f, word_embed_proj_dim=32, do_layer_norm_before=False),
    "llama": lambda f: tiny_llama(f, tied=False),
    "llama-tied": lambda f: tiny_llama(f, tied=True),
    **{name: lambda f, config=config: save_random(config, f) for name, config in SPECIAL.items()},
}


def load(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, **options).eval()


@torch.no_grad()
def logits(model):
    return model(IDS).logits


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("table_bits", [None, 4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, slow(torch.float16), torch.bfloat16])
def test_round_trip_is_bit_equal(tmp_path, name, table_bits, dtype):
    source = MODELS[name](tmp_path / "float")
    config = DareqConfig(bits=4, group_size=16, table_bits=table_bits, position_bits=table_bits)
    model = load(source, quantization_config=config, dtype=dtype)
    before = logits(model)
    model.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved", dtype=dtype)
    assert before.dtype == dtype
    assert torch.equal(logits(again), before)
    assert all(m.scales.dtype == torch.float32 for m in again.modules() if isinstance(m, DAREQuantLinear))
    assert {p.dtype for p in again.parameters()} == {dtype}
    assert load(tmp_path / "saved", dtype="auto").dtype == dtype
    again.save_pretrained(tmp_path / "twice")
    first, second = (load_file(tmp_path / d / "model.safetensors") for d in ("saved", "twice"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("table_bits", [None, 8])
def test_saved_folder_is_the_agreed_format(tmp_path, name, table_bits):
    source = MODELS[name](tmp_path / "float")
    options = {"bits": 3, "table_bits": table_bits, "position_bits": table_bits, "scale_dtype": "bfloat16"}
    config = DareqConfig(**options)
    load(source, quantization_config=config).save_pretrained(tmp_path / "saved")
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())["quantization_config"]
    with torch.device("meta"):
        skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source))
    plan = plan_model(skeleton, QuantOptions(**options))
    assert saved["plan"] == {n: s.to_json() for n, s in plan.items()}
    assert {k: saved[k] for k in ("quant_method", "bits", "group_size", "skip", "table_bits", "entropy")} == {
        "quant_method": "dareq", "bits": 3, "group_size": None, "skip": [], "table_bits": table_bits,
        "entropy": "density",
    }  # fmt: skip
    expected = set(load_file(source / "model.safetensors"))
    for module in plan:
        expected = (expected - {f"{module}.weight"}) | {f"{module}.qweight", f"{module}.scales"}
        assert tensors[f"{module}.qweight"].dtype == torch.uint8
        assert tensors[f"{module}.scales"].dtype == torch.float32
    assert set(tensors) == expected


@pytest.mark.parametrize("name", SPECIAL)
@torch.no_grad()
def test_layers_that_are_not_torchs_own_compute_the_same(tmp_path, name):
    source = save_random(SPECIAL[name], tmp_path / "float")
    config = DareqConfig(bits=8, group_size=16, table_bits=8, position_bits=8, method="rtn")
    want, got = logits(load(source)), logits(load(source, quantization_config=config))
    assert (got - want).abs().max() < EIGHT_BITS * want.abs().max()


def test_conv1d_is_quantized_as_its_transpose(tmp_path):
    model = load(save_random(TRANSPOSED, tmp_path / "float"))
    layer = model.transformer.h[1].mlp.c_fc
    weight, bias = layer.weight.detach().clone(), layer.bias
    want = build("dareq")(weight.T.contiguous(), QuantSpec(4, 32))
    apply_dareq(model, group_size=32)
    quantized = model.transformer.h[1].mlp.c_fc
    assert isinstance(quantized, DAREQuantLinear)
    assert quantized.bias is bias
    assert torch.equal(quantized.dequantize(), torch.from_numpy(want.dequantize()))
    assert torch.equal(DAREQuantLinear(layer, group_size=32).dequantize(), quantized.dequantize())
    assert not [n for n, p in model.named_parameters() if p.ndim == 2 and n.split(".")[-2] not in ("wte", "wpe")]


@pytest.mark.parametrize("name", ["gemma3", "biogpt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@torch.no_grad()
def test_a_scaled_table_rounds_as_the_float_one(tmp_path, name, dtype):
    source = save_random(SPECIAL[name], tmp_path / "float")
    plain, table = (m.get_input_embeddings() for m in (load(source, dtype=dtype), load(
        source, quantization_config=DareqConfig(table_bits=8), dtype=dtype)))  # fmt: skip
    plain.weight.copy_(table.weight)
    ids = torch.arange(96)
    assert table(ids).dtype == dtype
    assert torch.equal(table(ids), plain(ids))


@pytest.mark.parametrize("tied", [True, False])
def test_table_and_head(tmp_path, tied):
    model = load(tiny_llama(tmp_path / "float", tied=tied), quantization_config=DareqConfig(table_bits=8))
    assert isinstance(model.model.embed_tokens, QuantEmbedding)
    assert isinstance(model.lm_head, TiedQuantLinear) == tied
    assert isinstance(model.lm_head, DAREQuantLinear)
    assert ("lm_head" in model.config.quantization_config.plan) != tied
    if tied:
        assert model.lm_head.qweight is model.model.embed_tokens.qweight
    again = AutoModelForCausalLM.from_pretrained(tiny_llama(tmp_path / "b", tied=tied))
    assert type(apply_dareq(again).lm_head) is torch.nn.Linear
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == tied


def test_apply_dareq_then_save_loads_again(tmp_path):
    model = apply_dareq(load(tiny_opt(tmp_path / "float")), table_bits=4, skip=["*.fc2"])
    before = logits(model)
    model.save_pretrained(tmp_path / "saved")
    assert torch.equal(logits(load(tmp_path / "saved")), before)


def test_weights_are_quantized_before_they_are_rounded(tmp_path):
    source = tiny_opt(tmp_path / "float")
    full = load(source, quantization_config=DareqConfig())
    half = load(source, quantization_config=DareqConfig(), dtype=torch.bfloat16)
    name = "model.decoder.layers.0.fc1"
    assert torch.equal(half.get_submodule(name).dequantize(), full.get_submodule(name).dequantize())


def test_greedy_tokens_survive_the_round_trip(tmp_path):
    model = load(tiny_opt(tmp_path / "float"), quantization_config=DareqConfig(table_bits=4))
    model.save_pretrained(tmp_path / "saved")
    options = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(IDS)}
    assert torch.equal(load(tmp_path / "saved").generate(IDS, **options), model.generate(IDS, **options))


def test_incomplete_folders_are_refused(tmp_path):
    from safetensors.torch import save_file

    source = tiny_opt(tmp_path / "float")
    load(source, quantization_config=DareqConfig()).save_pretrained(tmp_path / "saved")
    for folder, options in ((source, {"quantization_config": DareqConfig()}), (tmp_path / "saved", {})):
        file = folder / "model.safetensors"
        tensors = load_file(file)
        lost = next(k for k in sorted(tensors) if "fc1" in k and k.endswith(("weight", "scales")))
        del tensors[lost]
        save_file(tensors, file, metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=r"has no tensor model\.decoder\.layers\.0\.fc1"):
            load(folder, **options)


def test_plan_and_options_are_checked(tmp_path):
    with pytest.raises(SpecError, match="bits is 1"):
        DareqConfig(bits=1)
    source = tiny_opt(tmp_path / "float")
    load(source, quantization_config=DareqConfig()).save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"]["plan"] = None
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"no quantization_config\.plan"):
        load(tmp_path / "saved")
