"""The awq recipe: the published procedure written out, folds in the folder, resuming, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoConfig, LlamaConfig

from dareq_edge.blockwise.text import sample_windows
from dareq_edge.errors import DareqError, SpecError, UnsupportedArchitectureError
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.quantizers.rtn import RoundToNearest
from dareq_edge.recipes import build
from dareq_edge.recipes.awq import Awq
from dareq_edge.reference import load_reference
from dareq_edge.spec import QuantSpec
from tiny_models import SPECIAL, save_random, tiny_opt
from tiny_sources import stored
from tolerances import AWQ_8_BITS, AWQ_OF_NEAREST, GPTQ_SAME_CODES

SHARED = Path(__file__).parents[2] / "../shared/data"
LLAMA = LlamaConfig(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=100,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=64,
    initializer_range=0.2,
)


def recipe(folder: Path, **changes: object) -> Awq:
    path = folder / "text.npy"
    np.save(path, np.random.default_rng(0).integers(3, 96, size=600))
    return Awq(**{"calibration": str(path), "samples": 6, "sample_length": 24} | changes)


def nearest(weight: torch.Tensor, spec: QuantSpec) -> torch.Tensor:
    return torch.from_numpy(RoundToNearest()(weight, spec).dequantize())


def search(module: torch.nn.Module, linears: list[torch.nn.Linear], call: tuple, x: torch.Tensor, spec: QuantSpec):
    """auto_scale.py's _search_module_scale: run the module for every ratio."""
    want = output(module, call)
    kept = [linear.weight.clone() for linear in linears]
    size, losses, tried = x.abs().reshape(-1, x.shape[-1]).mean(0), [], []
    for i in range(20):
        t = size.pow(i / 20).clamp(min=1e-4)
        t = t / (t.max() * t.min()).sqrt()
        for linear, weight in zip(linears, kept, strict=True):
            linear.weight.copy_(nearest(weight * t, spec) / t)
        losses.append(float((output(module, call) - want).square().mean()))
        tried.append(t)
    for linear, weight in zip(linears, kept, strict=True):
        linear.weight.copy_(weight)
    return tried[int(np.argmin(losses))]


def output(module: torch.nn.Module, call: tuple) -> torch.Tensor:
    out = module(*call[0], **call[1])
    return out[0] if isinstance(out, tuple) else out


def clipped(weight: torch.Tensor, x: torch.Tensor, spec: QuantSpec) -> torch.Tensor:
    """auto_clip.py over all tokens, group by group."""
    best = weight.clone()
    for start in range(0, weight.shape[1], spec.group_size or weight.shape[1]):
        part = slice(start, start + (spec.group_size or weight.shape[1]))
        w, errors, tried = weight[:, part], [], []
        for i in range(10):
            bound = w.abs().amax(1, keepdim=True) * (1 - i / 20)
            tried.append(w.clamp(-bound, bound))
            errors.append((x[:, part] @ (nearest(tried[-1], replace(spec, group_size=None)) - w).T).square().mean(0))
        choice = torch.stack(errors).argmin(0)
        best[:, part] = torch.stack(tried)[choice, torch.arange(len(w))]
    return best


def published(model: torch.nn.Module, ids: torch.Tensor, spec: QuantSpec) -> None:
    """The whole model in memory, on the float model's activations."""
    calls: dict[torch.nn.Module, tuple] = {}
    handles = [
        m.register_forward_pre_hook(lambda m, a, k: calls.__setitem__(m, (a, k)), with_kwargs=True)
        for m in model.model.layers.modules()
    ]
    model(ids, use_cache=False)
    for handle in handles:
        handle.remove()
    for layer in model.model.layers:
        a, f = layer.self_attn, layer.mlp
        places = [
            (layer.input_layernorm, [a.q_proj, a.k_proj, a.v_proj], a),
            (a.v_proj, [a.o_proj], a.o_proj),
            (layer.post_attention_layernorm, [f.gate_proj, f.up_proj], f),
            (f.up_proj, [f.down_proj], f.down_proj),
        ]
        found = [search(m, linears, calls[m], calls[linears[0]][0][0], spec) for _, linears, m in places]
        inputs = {}
        for (before, linears, _), t in zip(places, found, strict=True):
            before.weight.div_(t[:, None] if isinstance(before, torch.nn.Linear) else t)
            for linear in linears:
                linear.weight.mul_(t)
                inputs[linear] = calls[linear][0][0].flatten(0, 1) / t
        for linear, x in inputs.items():
            weight = linear.weight if linear in (a.q_proj, a.k_proj) else clipped(linear.weight, x, spec)
            linear.weight.copy_(nearest(weight, spec))


@pytest.mark.parametrize("group_size", [None, 32])
def test_the_same_as_the_published_loops(tmp_path: Path, group_size: int | None) -> None:
    source, options = save_random(LLAMA, tmp_path / "m"), QuantOptions(group_size=group_size)
    made = recipe(tmp_path)
    quantize_checkpoint(source, tmp_path / "q", options, made)
    model = AutoModelForCausalLM.from_pretrained(source).eval()
    with torch.no_grad():
        published(model, sample_windows(np.load(made.calibration), 24, 6, 0), options.spec)
    parameters = load_reference(tmp_path / "q").model.parameters()
    same = [
        torch.isclose(a, b, rtol=1e-4, atol=1e-6).float().mean()
        for a, b in zip(parameters, model.parameters(), strict=True)
    ]
    assert min(same) > GPTQ_SAME_CODES


def test_without_its_searches_it_is_rtn(tmp_path: Path) -> None:
    source = save_random(LLAMA, tmp_path / "m")
    quantize_checkpoint(source, tmp_path / "awq", QuantOptions(), recipe(tmp_path, scale=False, clip=False))
    quantize_checkpoint(source, tmp_path / "rtn", QuantOptions(method="rtn"))
    got, want = stored(tmp_path / "awq"), stored(tmp_path / "rtn")
    assert set(got) == set(want)
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize("family", ["opt", "post", "gpt2", "gemma3", "biogpt"])
def test_every_family_ends_up_complete_and_readable(tmp_path: Path, family: str) -> None:
    if family in SPECIAL:
        source = save_random(SPECIAL[family], tmp_path / "m")
    else:
        changes = {"do_layer_norm_before": False, "word_embed_proj_dim": 32} if family == "post" else {}
        source = tiny_opt(tmp_path / "m", dtype=torch.bfloat16, **changes)
    options = QuantOptions(bits=8, scale_dtype="bfloat16")
    manifest = quantize_checkpoint(source, tmp_path / "q", options, recipe(tmp_path))
    assert {e.method for e in manifest.tensors.values() if e.method} >= {"awq"}
    ids = torch.randint(3, 96, (2, 12), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        got, want = (load_reference(f).model(ids, use_cache=False).logits for f in (tmp_path / "q", source))
    assert float((got - want).norm() / want.norm()) < AWQ_8_BITS  # a fold that misses its other half gives about 1
    plain, folded = stored(source), stored(tmp_path / "q")
    moved = [n for n in folded if n in plain and not torch.equal(plain[n], folded[n])]
    assert bool(moved) == (family != "post")  # there only biases could move, and these are zero
    assert all(folded[n].dtype == plain[n].dtype for n in moved)


class _Interrupted(Exception):  # noqa: N818  # stands for what a user does
    pass


def test_goes_on_where_it_stopped_with_the_same_bits(tmp_path: Path) -> None:
    source, made = save_random(LLAMA, tmp_path / "m"), recipe(tmp_path)
    quantize_checkpoint(source, tmp_path / "straight", QuantOptions(), made)

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "quantizing blocks" and done == 1:
            raise _Interrupted

    with pytest.raises(_Interrupted):
        quantize_checkpoint(source, tmp_path / "q", QuantOptions(), made, progress=interrupt)
    assert len(list((tmp_path / ".q.resume").glob("block-*"))) == 1
    quantize_checkpoint(source, tmp_path / "q", QuantOptions(), made)
    got, want = stored(tmp_path / "q"), stored(tmp_path / "straight")
    assert all(torch.equal(got[name], want[name]) for name in want)


def refuse(tmp_path: Path, source: Path, match: str, error: type[DareqError], **changes: object) -> None:
    with pytest.raises(error, match=match):
        quantize_checkpoint(source, tmp_path / "q", QuantOptions(), recipe(tmp_path, **changes))
    assert not (tmp_path / "q").exists()


def test_refusals(tmp_path: Path) -> None:
    source = save_random(LLAMA, tmp_path / "m")
    refuse(tmp_path, source, "awq needs calibration text", SpecError, calibration=None)
    neo = GPTNeoConfig(
        vocab_size=96, hidden_size=64, num_layers=2, num_heads=4, attention_types=[[["global"], 2]],
        max_position_embeddings=64,
    )  # fmt: skip
    other = save_random(neo, tmp_path / "neo")
    refuse(tmp_path, other, "not known for model type 'gpt_neo'", UnsupportedArchitectureError)


@pytest.mark.parametrize(("field", "value"), [("samples", 0), ("seed", -1), ("clip", 1), ("compute", "f")])
def test_values_that_cannot_work(field: str, value: object) -> None:
    with pytest.raises(SpecError, match=f"^{field} is "):
        build("awq", {field: value})


def loss(folder: Path, ids: torch.Tensor) -> float:
    model = load_reference(folder).model
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits[:, :-1]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))


def test_better_than_nearest_on_a_trained_model(tmp_path: Path) -> None:
    folder = SHARED / "stories260k"
    if not folder.is_dir():
        pytest.skip("the shared data folder with stories260k is not beside the checkout")
    ids = np.load(folder / "eval_tokens.npy").reshape(-1).astype(np.int64)
    half = len(ids) // 2
    np.save(tmp_path / "calibration.npy", ids[:half])
    held_out = torch.from_numpy(ids[half : half + 32 * 256].reshape(32, 256))
    made = Awq(str(tmp_path / "calibration.npy"), samples=16, sample_length=256)
    quantize_checkpoint(folder, tmp_path / "awq", QuantOptions(), made)
    quantize_checkpoint(folder, tmp_path / "rtn", QuantOptions(method="rtn"))
    float_loss = loss(folder, held_out)
    rise = {name: loss(tmp_path / name, held_out) - float_loss for name in ("awq", "rtn")}
    assert rise["awq"] < AWQ_OF_NEAREST * rise["rtn"], rise
