"""The gptq recipe: the published procedure on whole models, resumed where it stopped, refused in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from dareq_edge.blockwise.text import sample_windows
from dareq_edge.errors import DareqError, DataError, SpecError
from dareq_edge.matrix import matrix_of
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.recipes import build
from dareq_edge.recipes.gptq import Gptq
from dareq_edge.reference import load_reference
from dareq_edge.rounding.codes import to_quantized
from dareq_edge.rounding.feedback import feedback
from dareq_edge.rounding.scales import published_scales
from dareq_edge.spec import QuantSpec
from tiny_models import SPECIAL, save_random, tiny_opt
from tiny_sources import stored
from tolerances import EXPORT_FP32, GPTQ_OF_NEAREST, GPTQ_SAME_CODES

SHARED = Path(__file__).parents[2] / "../shared/data"
LLAMA = LlamaConfig(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=100,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    initializer_range=0.2,
)


def tokens(folder: Path, count: int = 600, vocab: int = 96) -> str:
    path = folder / "text.npy"
    np.save(path, np.random.default_rng(0).integers(3, vocab, size=count))
    return str(path)


def recipe(folder: Path, **changes: object) -> Gptq:
    return Gptq(**{"calibration": tokens(folder), "samples": 6, "sample_length": 24} | changes)


def published(model: torch.nn.Module, ids: torch.Tensor, stages: list[list[str]], spec: QuantSpec) -> None:
    """What opt.py does, on a whole model in memory: hooks, second moment, round, next group; blocks in turn."""
    for layer in model.model.layers:
        for stage in stages:
            seen: dict[str, list[torch.Tensor]] = {name: [] for name in stage}
            handles = [
                layer.get_submodule(name).register_forward_pre_hook(lambda _, x, into=into: into.append(x[0]))
                for name, into in seen.items()
            ]
            model(ids, use_cache=False)
            for handle in handles:
                handle.remove()
            for name in stage:
                x = torch.cat(seen[name]).reshape(-1, seen[name][0].shape[-1]).double()
                weight = matrix_of(layer.get_submodule(name))
                scales = published_scales(weight, spec, search=False, name=name)
                q = feedback(weight, x.T @ x / len(x), scales, spec)
                weight.copy_(torch.from_numpy(to_quantized(q, scales, spec).dequantize()))


@pytest.mark.parametrize("sequential", [True, False])
def test_the_same_as_the_whole_model_in_memory(tmp_path: Path, sequential: bool) -> None:
    source, options = save_random(LLAMA, tmp_path / "m"), QuantOptions(group_size=32)
    made = recipe(tmp_path, true_sequential=sequential)
    quantize_checkpoint(source, tmp_path / "q", options, made)
    model = AutoModelForCausalLM.from_pretrained(source).eval()
    attention = [["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"], ["self_attn.o_proj"]]
    stages = [*attention, ["mlp.gate_proj", "mlp.up_proj"], ["mlp.down_proj"]]
    ids = sample_windows(np.load(made.calibration), 24, 6, 0)
    with torch.no_grad():
        published(model, ids, stages if sequential else [[n for s in stages for n in s]], options.spec)
    parameters = load_reference(tmp_path / "q").model.parameters()
    same = [
        torch.isclose(a, b, rtol=1e-5).float().mean() for a, b in zip(parameters, model.parameters(), strict=True)
    ]
    assert min(same) > GPTQ_SAME_CODES


@pytest.mark.parametrize("group_size", [None, 32])
@pytest.mark.parametrize("family", ["opt", "post", *SPECIAL])
def test_every_family_ends_up_complete_and_readable(tmp_path: Path, family: str, group_size: int | None) -> None:
    if family in SPECIAL:
        source = save_random(SPECIAL[family], tmp_path / "m")
    else:
        changes = {"do_layer_norm_before": False, "word_embed_proj_dim": 32} if family == "post" else {}
        source = tiny_opt(tmp_path / "m", dtype=torch.bfloat16, **changes)
    options = QuantOptions(group_size=group_size, table_bits=8, scale_dtype="bfloat16")
    manifest = quantize_checkpoint(source, tmp_path / "q", options, recipe(tmp_path))
    entries = [e for e in manifest.tensors.values() if e.method]
    assert {e.method for e in entries} >= {"gptq"}
    scales = [t for name, t in stored(tmp_path / "q").items() if name.endswith(".scales")]
    assert len(scales) == len(entries)
    assert all(torch.equal(s, s.bfloat16().float()) for s in scales)
    config = json.loads((tmp_path / "q/config.json").read_text())["quantization_config"]
    assert config["recipe"]["label"] == "gptq"
    assert config["recipe"]["samples"] == 6
    assert torch.isfinite(load_reference(tmp_path / "q").model(torch.tensor([[3, 4, 5]])).logits).all()


class _Interrupted(Exception):  # noqa: N818  # stands for what a user does
    pass


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_goes_on_where_it_stopped_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    source, options = save_random(LLAMA, tmp_path / "m"), QuantOptions(table_bits=8)
    made = recipe(tmp_path)
    quantize_checkpoint(source, tmp_path / "straight", options, made)
    seen: list[int] = []

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "quantizing blocks":
            seen.append(done)
            if done == stop and not resumed:
                raise _Interrupted

    resumed = False
    with pytest.raises(_Interrupted):
        quantize_checkpoint(source, tmp_path / "q", options, made, progress=interrupt)
    work = tmp_path / ".q.resume"
    assert len(list(work.glob("block-*"))) == stop
    assert len(list(work.glob("state-*"))) == min(stop, 1)
    assert not (tmp_path / "q").exists()
    resumed, seen[:] = True, []
    quantize_checkpoint(source, tmp_path / "q", options, made, progress=interrupt)
    assert seen == ([] if stop == 3 else list(range(stop, 4)))
    assert not work.exists()
    got, want = stored(tmp_path / "q"), stored(tmp_path / "straight")
    assert set(got) == set(want)
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize("what", ["settings", "options", "text", "weights"])
def test_other_settings_start_anew(tmp_path: Path, what: str) -> None:
    source, options, made = save_random(LLAMA, tmp_path / "m"), QuantOptions(), recipe(tmp_path)

    def interrupt(stage: str, done: int, total: int) -> None:
        if done == 2 and stage == "quantizing blocks":
            raise _Interrupted

    with pytest.raises(_Interrupted):
        quantize_checkpoint(source, tmp_path / "q", options, made, progress=interrupt)
    if what == "settings":
        made = replace(made, damping=0.02)
    elif what == "options":
        options = QuantOptions(bits=3)
    elif what == "text":
        tokens(tmp_path, 500)
    else:
        save_random(LLAMA, source, seed=1)
    seen: list[int] = []
    quantize_checkpoint(source, tmp_path / "q", options, made, progress=lambda stage, done, total: seen.append(done))
    quantize_checkpoint(source, tmp_path / "straight", options, made)
    got, want = stored(tmp_path / "q"), stored(tmp_path / "straight")
    assert all(torch.equal(got[name], want[name]) for name in want)


def word_tokenizer(folder: Path) -> None:
    words = {f"w{i}": i for i in range(90)} | {"[UNK]": 90}
    inner = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(folder)


def test_text_goes_through_the_models_tokenizer(tmp_path: Path) -> None:
    source = save_random(LLAMA, tmp_path / "m")
    word_tokenizer(source)
    ids = np.random.default_rng(1).integers(0, 90, size=300)
    (tmp_path / "text.txt").write_text(" ".join(f"w{i}" for i in ids), encoding="utf-8")
    np.save(tmp_path / "ids.npy", ids)
    for name in ("text.txt", "ids.npy"):
        quantize_checkpoint(
            source, tmp_path / f"q-{name}", QuantOptions(), recipe(tmp_path, calibration=str(tmp_path / name))
        )
    a, b = stored(tmp_path / "q-text.txt"), stored(tmp_path / "q-ids.npy")
    assert all(torch.equal(a[name], b[name]) for name in a)


def refuse(tmp_path: Path, match: str, error: type[DareqError], **changes: object) -> None:
    source = tmp_path / "m"
    if not source.exists():
        save_random(LLAMA, source)
    with pytest.raises(error, match=match):
        quantize_checkpoint(source, tmp_path / "q", QuantOptions(), recipe(tmp_path, **changes))
    assert not (tmp_path / "q").exists()
    assert not (tmp_path / ".q.resume").exists()


def test_no_text(tmp_path: Path) -> None:
    refuse(tmp_path, "gptq needs calibration text; set calibration to a text file", SpecError, calibration=None)


def test_text_shorter_than_a_window(tmp_path: Path) -> None:
    np.save(tmp_path / "short.npy", np.arange(3, 20))
    refuse(tmp_path, "17 tokens, fewer than one window of 24", DataError, calibration=str(tmp_path / "short.npy"))


def test_no_tokenizer_or_one_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some text", encoding="utf-8")
    refuse(tmp_path, r"has no tokenizer; .*\.npy", DataError, calibration=str(tmp_path / "text.txt"))
    (tmp_path / "m/tokenizer.json").write_text("{", encoding="utf-8")
    refuse(tmp_path, r"tokenizer in .* does not load .*\.npy", DataError, calibration=str(tmp_path / "text.txt"))


def test_text_that_is_not_there_or_of_another_model(tmp_path: Path) -> None:
    refuse(tmp_path, r"none\.txt cannot be read", DataError, calibration=str(tmp_path / "none.txt"))
    refuse(tmp_path, r"none\.npy cannot be read", DataError, calibration=str(tmp_path / "none.npy"))
    np.save(tmp_path / "other.npy", np.full(100, 96))
    refuse(
        tmp_path, "token 96, but the model's vocabulary has 96", DataError, calibration=str(tmp_path / "other.npy")
    )
    np.save(tmp_path / "float.npy", np.ones(100))
    refuse(tmp_path, "whole numbers", DataError, calibration=str(tmp_path / "float.npy"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("samples", 0),
        ("sample_length", 1.5),
        ("seed", -1),
        ("scale", "max"),
        ("damping", 2),
        ("act_order", 1),
        ("compute", "f"),
    ],
)
def test_values_that_cannot_work(field: str, value: object) -> None:
    with pytest.raises(SpecError, match=f"^{field} is "):
        build("gptq", {field: value})


def test_published_scales() -> None:
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    plain = published_scales(weight, QuantSpec(4, 16), search=False, name="w")
    assert plain.shape == (5, 3)
    assert torch.allclose(plain[:, 2], weight[:, 32:].abs().amax(1) / 7.5)
    w, best = weight.double().numpy(), []
    for row in w:
        factors = [1 - i / 100 for i in range(80)]
        scales = [f * np.abs(row).max() / 7.5 for f in factors]
        errors = [(np.abs(np.clip(np.rint(row / s), -8, 7) * s - row) ** 2.4).sum() for s in scales]
        best.append(scales[int(np.argmin(errors))])
    found = published_scales(weight, QuantSpec(4), search=True, name="w")
    assert np.allclose(found[:, 0].numpy(), best, rtol=EXPORT_FP32)


def loss(folder: Path, ids: torch.Tensor) -> float:
    model = load_reference(folder).model
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits[:, :-1]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))


@pytest.mark.parametrize("scale", ["absmax", "mse"])
def test_better_than_nearest_on_a_trained_model(tmp_path: Path, scale: str) -> None:
    folder = SHARED / "stories260k"
    if not folder.is_dir():
        pytest.skip("the shared data folder with stories260k is not beside the checkout")
    ids = np.load(folder / "eval_tokens.npy").reshape(-1).astype(np.int64)
    half = len(ids) // 2
    np.save(tmp_path / "calibration.npy", ids[:half])
    held_out = torch.from_numpy(ids[half : half + 32 * 256].reshape(32, 256))
    made = Gptq(str(tmp_path / "calibration.npy"), samples=32, sample_length=256, scale=scale)
    quantize_checkpoint(folder, tmp_path / "gptq", QuantOptions(), made)
    quantize_checkpoint(folder, tmp_path / "rtn", QuantOptions(method="rtn"))
    float_loss = loss(folder, held_out)
    rise = {name: loss(tmp_path / name, held_out) - float_loss for name in ("gptq", "rtn")}
    assert rise["gptq"] < GPTQ_OF_NEAREST * rise["rtn"], rise
