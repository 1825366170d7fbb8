"""Streaming quantization: the same bits as transformers' own path, in bounded pieces, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from dareq_edge import quantize, shards
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.errors import ArtifactError, CheckpointError, SpecError
from dareq_edge.hf import DareqConfig
from dareq_edge.manifest import Manifest
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.quantized import read_plan, read_quantized
from dareq_edge.reference import load_reference
from tiny_models import SPECIAL, TRANSPOSED, save_random, tiny_opt
from tiny_sources import stored
from tolerances import REFERENCE_CHUNKED

LLAMA = LlamaConfig(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=172,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
CHOICES = [
    QuantOptions(),
    QuantOptions(bits=3, group_size=32, method="rtn"),
    QuantOptions(table_bits=8, scale_dtype="bfloat16", skip=("*.fc2",)),
    QuantOptions(table_bits=4, position_bits=8, scale_dtype="bfloat16"),
    QuantOptions(bits=8, table_bits=4, entropy="probability"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_bit_identical_to_the_transformers_path(tmp_path: Path, options: QuantOptions, dtype: torch.dtype) -> None:
    assert_both_paths_agree(tiny_opt(tmp_path / "m", dtype=dtype), tmp_path, options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("table_bits", [None, 8])
@pytest.mark.parametrize("name", SPECIAL)
def test_bit_identical_for_layers_that_are_not_torchs_own(
    tmp_path: Path, name: str, table_bits: int | None, dtype: torch.dtype
) -> None:
    source = save_random(SPECIAL[name], tmp_path / "m", dtype=dtype)
    assert_both_paths_agree(
        source, tmp_path, QuantOptions(group_size=32, table_bits=table_bits, position_bits=table_bits)
    )


def assert_both_paths_agree(source: Path, tmp_path: Path, options: QuantOptions) -> None:
    """Streaming writes the tensors and the plan that from_pretrained and save_pretrained write."""
    quantize_checkpoint(source, tmp_path / "streamed", options)
    config = DareqConfig(**{name: getattr(options, name) for name in options.__slots__})
    model = AutoModelForCausalLM.from_pretrained(source, quantization_config=config, dtype="auto")
    model.save_pretrained(tmp_path / "saved")
    got, want = stored(tmp_path / "streamed"), stored(tmp_path / "saved")
    assert set(got) == set(want)
    for name in want:
        assert got[name].dtype == want[name].dtype, name
        assert torch.equal(got[name], want[name]), name
    a, b = (json.loads((tmp_path / f / "config.json").read_text()) for f in ("streamed", "saved"))
    assert a["quantization_config"] == b["quantization_config"]
    assert a["architectures"] == b["architectures"]


def test_names_as_gpt2_has_them_on_the_hub(tmp_path: Path) -> None:
    source = save_random(TRANSPOSED, tmp_path / "m")
    quantize_checkpoint(source, tmp_path / "full", QuantOptions())
    tensors = {n.removeprefix("transformer."): t for n, t in load_file(source / "model.safetensors").items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 128, 128).tril()  # the causal mask, which old files hold
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    manifest = quantize_checkpoint(source, tmp_path / "hub", QuantOptions())
    full, hub = stored(tmp_path / "full"), stored(tmp_path / "hub")
    assert set(full) == set(hub)
    assert all(torch.equal(full[n], hub[n]) for n in full)
    entry = manifest.tensors["transformer.h.0.mlp.c_fc.weight"]
    assert (entry.shape, entry.bits) == ((256, 64), 4)


@pytest.mark.parametrize("tied", [True, False])
def test_loads_with_transformers_and_gives_the_same_logits(tmp_path: Path, tied: bool) -> None:
    source = tiny_opt(tmp_path / "m", tie_word_embeddings=tied)
    quantize_checkpoint(source, tmp_path / "q", QuantOptions(table_bits=8))
    ids = torch.randint(3, 96, (2, 20), generator=torch.Generator().manual_seed(0))
    made = AutoModelForCausalLM.from_pretrained(source, quantization_config=DareqConfig(table_bits=8))
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "q")
    with torch.inference_mode():
        assert torch.equal(made(ids).logits, read(ids).logits)


def test_several_shards_hold_the_same_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save_random(LLAMA, tmp_path / "m", shard="60KB")
    quantize_checkpoint(source, tmp_path / "one", QuantOptions(table_bits=4))
    writer = shards.ShardWriter
    monkeypatch.setattr(quantize, "ShardWriter", lambda folder: writer(folder, shard_bytes=5000))
    manifest = quantize_checkpoint(source, tmp_path / "many", QuantOptions(table_bits=4))
    files = sorted(p.name for p in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 3
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    one, many = stored(tmp_path / "one"), stored(tmp_path / "many")
    assert set(one) == set(many)
    assert all(torch.equal(one[n], many[n]) for n in one)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(many)
    for name, entry in manifest.tensors.items():
        packed = name.removesuffix(".weight") + ".qweight"
        assert index["weight_map"][packed if entry.method else name] == entry.file
    AutoModelForCausalLM.from_pretrained(tmp_path / "many")  # transformers reads the index


def test_manifest_counts_every_byte(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    manifest = quantize_checkpoint(source, tmp_path / "q", QuantOptions(table_bits=4))
    assert Manifest.read(tmp_path / "q") == manifest
    manifest.verify(tmp_path / "q")
    size = sum(t.numel() * t.element_size() for t in stored(tmp_path / "q").values())
    assert sum(e.bytes for e in manifest.tensors.values()) == size
    entry = manifest.tensors["model.decoder.layers.0.fc1.weight"]
    assert (entry.shape, entry.bits, entry.scheme, entry.method) == ((128, 64), 4, "per channel", "dareq")


def test_tokenizer_and_generation_config_come_along(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    (source / "merges.txt").write_text("#version: 0.2\n")
    (source / "vocab.json").write_text("{}")
    quantize_checkpoint(source, tmp_path / "q", QuantOptions())
    for name in ("merges.txt", "vocab.json", "generation_config.json"):
        assert (tmp_path / "q" / name).read_bytes() == (source / name).read_bytes()
    (source / "generation_config.json").unlink()
    quantize_checkpoint(source, tmp_path / "q2", QuantOptions())
    assert json.loads((tmp_path / "q2" / "generation_config.json").read_text())["eos_token_id"] == 2


def test_reads_back_what_was_chosen(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    options = QuantOptions(bits=5, group_size=16)
    quantize_checkpoint(source, tmp_path / "q", options)
    checkpoint = Checkpoint.open(str(tmp_path / "q"))
    weights = stored(source)
    for module, spec in read_plan(checkpoint).items():
        weight = weights[f"{module}.weight"]
        got = read_quantized(checkpoint, module, spec, weight.shape[1])
        want = options.quantizer()(weight, spec, name=module)
        assert np.array_equal(got.codes, want.codes)
        assert np.array_equal(got.scales, want.scales)


def test_reference_holds_exactly_the_dequantized_weights(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m", dtype=torch.float16)
    quantize_checkpoint(source, tmp_path / "q", QuantOptions(table_bits=8, group_size=32))
    checkpoint, reference = Checkpoint.open(str(tmp_path / "q")), load_reference(tmp_path / "q")
    assert reference.label == "torch dareq"
    state = reference.model.state_dict()
    for module, spec in read_plan(checkpoint).items():
        weight = state[f"{module}.weight"]
        assert weight.dtype == torch.float32
        want = read_quantized(checkpoint, module, spec, weight.shape[1]).dequantize()
        assert np.array_equal(weight.numpy(), want)
    assert reference.model.lm_head.weight is reference.model.model.decoder.embed_tokens.weight


@pytest.mark.parametrize("name", SPECIAL)
def test_reference_is_transformers_on_the_quantized_folder(tmp_path: Path, name: str) -> None:
    options = QuantOptions(table_bits=8, position_bits=8, group_size=32)
    quantize_checkpoint(save_random(SPECIAL[name], tmp_path / "m"), tmp_path / "q", options)
    ids = np.random.default_rng(0).integers(3, 96, 20)
    with torch.inference_mode():
        want = AutoModelForCausalLM.from_pretrained(tmp_path / "q")(torch.from_numpy(ids)[None]).logits[0].numpy()
    got = np.concatenate(list(load_reference(tmp_path / "q").chunk_logits(ids, 7)))
    np.testing.assert_allclose(got, want, rtol=0, atol=REFERENCE_CHUNKED)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_reference_logits_are_transformers_logits(tmp_path: Path, chunk: int) -> None:
    source = tiny_opt(tmp_path / "m")
    reference = load_reference(source)
    assert (reference.label, reference.context_length, reference.vocab_size) == ("torch fp32", 128, 96)
    ids = np.random.default_rng(0).integers(3, 96, 50)
    with torch.inference_mode():
        want = AutoModelForCausalLM.from_pretrained(source)(torch.from_numpy(ids)[None]).logits[0].numpy()
    pieces = list(reference.chunk_logits(ids, chunk))
    assert [len(p) for p in pieces][:-1] == [chunk] * (len(pieces) - 1)
    np.testing.assert_allclose(np.concatenate(pieces), want, rtol=0, atol=REFERENCE_CHUNKED)


def test_greedy_goes_on_after_end_of_sequence(tmp_path: Path) -> None:
    reference = load_reference(tiny_opt(tmp_path / "m"))
    got = reference.greedy(np.array([2, 5, 9]), 30)
    ids = [2, 5, 9]
    for _ in range(30):
        ids.append(int(np.concatenate(list(reference.chunk_logits(np.array(ids))))[-1].argmax()))
    assert got.tolist() == ids[3:]


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")

    def interrupt(stage: str, done: int, total: int) -> None:
        if done > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_checkpoint(source, tmp_path / "q", QuantOptions(), progress=interrupt)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import SafetensorError

    source = tiny_opt(tmp_path / "m")

    def full(*args: object, **kwargs: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(shards, "save_file", full)
    with pytest.raises(ArtifactError, match=r"no space left while writing .*q; free some disk"):
        quantize_checkpoint(source, tmp_path / "q", QuantOptions())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_an_existing_folder_is_kept_unless_told(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    out = tmp_path / "q"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(SpecError, match="--overwrite"):
        quantize_checkpoint(source, out, QuantOptions())
    assert (out / "mine.txt").exists()
    quantize_checkpoint(source, out, QuantOptions(), overwrite=True)
    assert not (out / "mine.txt").exists()


def test_the_source_is_never_the_target(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    with pytest.raises(SpecError, match="is the model that is read"):
        quantize_checkpoint(source, source, QuantOptions(), overwrite=True)
    assert (source / "model.safetensors").exists()


def test_a_quantized_model_is_not_quantized_again(tmp_path: Path) -> None:
    quantize_checkpoint(tiny_opt(tmp_path / "m"), tmp_path / "q", QuantOptions())
    with pytest.raises(CheckpointError, match="already quantized"):
        quantize_checkpoint(tmp_path / "q", tmp_path / "r", QuantOptions())


def test_nan_names_the_tensor_and_leaves_nothing(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    tensors = load_file(source / "model.safetensors")
    tensors["model.decoder.layers.1.fc2.weight"][3, 4] = float("nan")
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"layers\.1\.fc2"):
        quantize_checkpoint(source, tmp_path / "q", QuantOptions())
    assert not (tmp_path / "q").exists()


def test_integer_weights_are_refused_before_any_work(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    tensors = load_file(source / "model.safetensors")
    name = "model.decoder.layers.1.fc2.weight"
    tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"fc2\.weight.* is I8"):
        quantize_checkpoint(source, tmp_path / "q", QuantOptions())
