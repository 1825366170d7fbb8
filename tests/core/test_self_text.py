"""Text a model writes itself: starts, temperatures, seeds, exactness against the model's own code, resuming."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig

from dareq_edge.calibration import decode
from dareq_edge.calibration import self_text as module
from dareq_edge.calibration.decode import Writer, writing_model
from dareq_edge.calibration.self_text import self_text
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.errors import ArtifactError, CheckpointError, SpecError
from dareq_edge.plan import QuantOptions
from dareq_edge.recipes import Source
from tiny_models import SPECIAL, save_random, tiny_opt
from tolerances import ENTROPY_GAP, ONE_QUERY

SHARED = Path(__file__).parents[2] / "../shared/data"


def llama(**changes: object) -> PretrainedConfig:
    settings: dict[str, object] = {
        "vocab_size": 96,
        "hidden_size": 64,
        "intermediate_size": 100,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return LlamaConfig(**(settings | changes))


def source(folder: Path) -> Source:
    checkpoint = Checkpoint.open(str(folder))
    model = checkpoint.empty_model()
    return Source(checkpoint, checkpoint.bind(model), {}, model, QuantOptions(), folder / "work")


def write(folder: Path, work: Path, **changes: object) -> torch.Tensor:
    settings = {"samples": 6, "length": 20, "seed": 0, "temperatures": (0.7, 1.0), "dtype": torch.float32}
    return self_text(source(folder), work=work, **(settings | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["opt", "post", "llama", *SPECIAL])
def test_logits_are_the_models_own(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_STEP", 5)  # with tokens before, at and after its multiples
    if family in ("opt", "post"):
        changes = {"do_layer_norm_before": False, "word_embed_proj_dim": 32} if family == "post" else {}
        folder = tiny_opt(tmp_path / "m", **changes)
    else:
        folder = save_random(SPECIAL.get(family, llama()), tmp_path / "m")
    ids = torch.randint(3, 96, (3, 12), generator=torch.Generator().manual_seed(0))
    want = AutoModelForCausalLM.from_pretrained(folder).eval()(ids, use_cache=False).logits.detach()
    with writing_model(source(folder), torch.float32) as model:
        writer = Writer(model, 12)
        got = torch.stack([writer.step(ids[:, t]) for t in range(12)], dim=1)
    assert float((got - want).abs().max()) < ONE_QUERY * float(want.abs().max())


def test_products_over_the_past_have_few_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new size for every token made the allocator hold gigabytes."""
    monkeypatch.setattr(decode, "_STEP", 5)
    sizes, padded = [], decode._with_zeros

    def spy(x: torch.Tensor) -> torch.Tensor:
        sizes.append(padded(x).shape[2])
        return padded(x)

    monkeypatch.setattr(decode, "_with_zeros", spy)
    write(tiny_opt(tmp_path / "model"), tmp_path / "work", length=12)
    assert sizes == [5] * 20 + [10] * 20 + [15] * 4  # keys and values of two layers, 11 tokens


def test_every_row_starts_with_bos_and_seeds_differ(tmp_path: Path) -> None:
    folder = save_random(llama(), tmp_path / "m")
    text = write(folder, tmp_path / "a")
    assert text.shape == (6, 20)
    assert text.dtype == torch.int64
    assert (text[:, 0] == 1).all()
    assert torch.equal(text, write(folder, tmp_path / "b"))
    assert not torch.equal(text, write(folder, tmp_path / "c", seed=1))
    assert not torch.equal(text[0], text[2])


@pytest.mark.parametrize(("bos", "eos", "first"), [(None, 2, {2}), (None, None, None), (500, 2, {2}), (7, 7, {7})])
def test_models_without_bos(tmp_path: Path, bos: int | None, eos: int | None, first: set[int] | None) -> None:
    folder = save_random(llama(bos_token_id=bos, eos_token_id=eos), tmp_path / "m")
    found = set(write(folder, tmp_path / "a", samples=30)[:, 0].tolist())
    assert found == first if first else len(found) > 10


def fixed(folder: Path, probabilities: dict[int, float], **changes: object) -> Path:
    """A model whose every prediction is the given distribution (all others: none)."""
    save_random(llama(tie_word_embeddings=False, **changes), folder)
    tensors = load_file(folder / "model.safetensors")
    logits = torch.full((96,), -1e4)
    for token, p in probabilities.items():
        logits[token] = math.log(p)
    # The last norm's output times the head: constant inputs need a constant hidden state.
    tensors["model.embed_tokens.weight"] = torch.ones(96, 64)
    for name in tensors:
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensors[name].zero_()
    tensors["model.norm.weight"] = torch.ones(64)
    tensors["lm_head.weight"] = (logits / 64)[:, None].repeat(1, 64)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_temperatures_cycle_over_rows(tmp_path: Path) -> None:
    folder = fixed(tmp_path / "m", {10: 0.9, 11: 0.1})
    text = write(folder, tmp_path / "w", samples=40, length=50, temperatures=(0.5, 1.0, 2.0))
    for i, temperature in enumerate((0.5, 1.0, 2.0)):
        a, b = 0.9 ** (1 / temperature), 0.1 ** (1 / temperature)
        drawn = text[i::3, 1:]
        want = b / (a + b)
        error = math.sqrt(want * (1 - want) / drawn.numel())
        assert abs(float((drawn == 11).double().mean()) - want) < 4 * error
        assert set(drawn.unique().tolist()) == {10, 11}


def test_eos_is_followed_by_bos_and_special_tokens_are_never_drawn(tmp_path: Path) -> None:
    folder = fixed(tmp_path / "m", {2: 0.2, 10: 0.2, 1: 0.2, 5: 0.2, 6: 0.2}, pad_token_id=5)
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"id": 6, "special": True}]}), "utf-8")
    text = write(folder, tmp_path / "w", samples=20, temperatures=(1.0,))
    assert set(text.unique().tolist()) == {1, 2, 10}
    after = text[:, 1:][text[:, :-1] == 2]
    assert (after == 1).all()
    assert len(after) > 20
    before = text[:, :-1][text[:, 1:] == 1]
    assert (before == 2).all()
    (folder / "tokenizer.json").write_text("{", "utf-8")
    assert set(write(folder, tmp_path / "v", samples=20).unique().tolist()) == {1, 2, 6, 10}


def test_eos_that_is_bos_is_not_doubled(tmp_path: Path) -> None:
    folder = fixed(tmp_path / "m", {2: 0.3, 10: 0.7}, bos_token_id=2)
    text = write(folder, tmp_path / "w", samples=20)
    after = text[:, 1:][text[:, :-1] == 2]
    assert 0.4 < float((after == 10).double().mean()) < 0.95


class _Interrupted(Exception):  # noqa: N818  # stands for what a user does
    pass


def stop_at(call: int) -> Callable[[str, int, int], None]:
    seen: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:
        seen.append(done)
        assert seen == sorted(seen)
        if len(seen) == call:
            raise _Interrupted

    return progress


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("call", [1, 9, 17, 20, 30, 45])
def test_goes_on_where_it_stopped_with_the_same_tokens(
    tmp_path: Path, call: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_KEEP", 8)
    folder = save_random(SPECIAL["gemma3"], tmp_path / "m")
    straight = write(folder, tmp_path / "straight", dtype=dtype, rows=2)
    with pytest.raises(_Interrupted):
        write(folder, tmp_path / "w", dtype=dtype, rows=2, progress=stop_at(call))
    steps: list[int] = []
    resumed = write(folder, tmp_path / "w", dtype=dtype, rows=2, progress=lambda _, done, __: steps.append(done))
    assert torch.equal(resumed, straight)
    assert len(steps) <= 3 * 20 - (call - 1) // 8 * 8 + 8
    assert torch.equal(write(folder, tmp_path / "w", dtype=dtype, rows=2, progress=stop_at(1)), straight)


def test_other_settings_start_anew_and_damage_is_named(tmp_path: Path) -> None:
    folder = save_random(llama(), tmp_path / "m")
    write(folder, tmp_path / "w")
    assert torch.equal(write(folder, tmp_path / "w", seed=3), write(folder, tmp_path / "v", seed=3))
    (tmp_path / "w/text.safetensors").write_bytes(b"none")
    with pytest.raises(ArtifactError, match=r"text\.safetensors cannot be read .* remove it"):
        write(folder, tmp_path / "w")


def test_batching_and_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_random(llama(), tmp_path / "m")
    text = write(folder, tmp_path / "a")
    assert torch.equal(text, write(folder, tmp_path / "b", rows=4))
    monkeypatch.setattr(module, "_CACHE", 1)
    assert torch.equal(text, write(folder, tmp_path / "c"))
    assert write(folder, tmp_path / "d", samples=1, length=100).shape == (1, 64)
    assert write(folder, tmp_path / "e", length=1).shape == (6, 1)


def test_nan(tmp_path: Path) -> None:
    folder = save_random(llama(), tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = torch.nan
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="logits hold NaN or infinity"):
        write(folder, tmp_path / "w")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("samples", 0),
        ("length", 0),
        ("seed", -1),
        ("temperatures", ()),
        ("temperatures", (0.0,)),
    ],
)
def test_values_that_cannot_work(tmp_path: Path, field: str, value: object) -> None:
    folder = save_random(llama(), tmp_path / "m")
    with pytest.raises(SpecError, match=f"^{field} (is|are) "):
        write(folder, tmp_path / "w", **{field: value})


def test_a_trained_model_writes_what_it_finds_likely(tmp_path: Path) -> None:
    folder = SHARED / "stories260k"
    if not folder.is_dir():
        pytest.skip("the shared data folder with stories260k is not beside the checkout")
    text = write(folder, tmp_path / "w", samples=16, length=128, temperatures=(1.0,))
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        logs = torch.log_softmax(model(text, use_cache=False).logits[:, :-1], dim=-1)
    loss = -logs.gather(2, text[:, 1:, None]).mean()
    entropy = -(logs.exp() * logs).sum(dim=-1).mean()
    # At temperature 1 the mean loss of the model's own text is its mean entropy.
    assert abs(float(loss - entropy)) < ENTROPY_GAP
