"""EWQ's entropy against its definition in 50 digits, against the closed form, and what must hold for any weights."""

from __future__ import annotations

import math
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from dareq_edge.allocation import entropy
from dareq_edge.allocation.entropy import block_entropies, softmax_entropy, weighted_mean
from dareq_edge.allocation.facts import facts_of_config
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.errors import CheckpointError, SpecError
from tiny_models import TRANSPOSED, save_random, tiny_opt
from tolerances import EWQ_CLOSED_FORM, EWQ_ENTROPY

both = pytest.mark.parametrize("epsilon", [0.0, 0.01])


def literal(weight: torch.Tensor, epsilon: float) -> mpmath.mpf:
    """-sum p ln(p + eps), word for word, in 50 digits."""
    with mpmath.workdps(50):
        powers = [mpmath.e ** mpmath.mpf(w) for w in weight.double().reshape(-1).tolist()]
        total = mpmath.fsum(powers)
        shares = [x / total for x in powers]
        return -mpmath.fsum(p * mpmath.log(p + mpmath.mpf(epsilon)) for p in shares if p + epsilon > 0)


def closed(variance: float, count: int, epsilon: float) -> float:
    """What it comes to for many weights of a small variance."""
    if epsilon == 0:
        return math.log(count) - variance / 2
    return -math.log(epsilon) - math.exp(variance) / (epsilon * count)


def normal(*shape: int, deviation: float = 1.0, mean: float = 0.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64) * deviation + mean


@both
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("deviation", "mean"), [(0.02, 0), (1, 0), (30, 0), (0.1, 200), (0.1, -200)])
def test_definition(epsilon: float, dtype: torch.dtype, deviation: float, mean: float) -> None:
    weight = normal(12, 40, deviation=deviation, mean=mean).to(dtype)
    before = weight.clone()
    assert softmax_entropy(weight, epsilon) == pytest.approx(float(literal(weight, epsilon)), rel=EWQ_ENTROPY)
    assert torch.equal(weight, before)


def test_weights_whose_exponentials_overflow() -> None:
    weight = torch.tensor([[30000.0, 29999.0], [-30000.0, 0.0]], dtype=torch.float32)
    for epsilon in (0.0, 0.01):
        assert softmax_entropy(weight, epsilon) == pytest.approx(float(literal(weight, epsilon)), rel=EWQ_ENTROPY)


@both
def test_pieces_change_nothing_that_matters(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = normal(30, 41, deviation=0.3)
    whole = softmax_entropy(weight, epsilon)
    monkeypatch.setattr(entropy, "_PIECE", 100)
    assert softmax_entropy(weight, epsilon) == pytest.approx(whole, rel=EWQ_ENTROPY)


@both
def test_differences_of_a_large_model_s_blocks_are_resolved(epsilon: float) -> None:
    """Standard deviations 0.02 and 0.0202: 5e-10 apart with epsilon, which float32 could not show."""
    weight = normal(512, 512, deviation=0.02)
    weight -= weight.mean()
    near = weight * 1.01
    found = softmax_entropy(weight, epsilon) - softmax_entropy(near, epsilon)
    variances = [float(w.var(unbiased=False)) for w in (weight, near)]
    want = closed(variances[0], weight.numel(), epsilon) - closed(variances[1], weight.numel(), epsilon)
    assert found > 0
    assert found == pytest.approx(want, rel=EWQ_CLOSED_FORM)


@both
@pytest.mark.parametrize("deviation", [0.01, 0.05, 0.2])
def test_closed_form(epsilon: float, deviation: float) -> None:
    weight = normal(300, 1000, deviation=deviation)
    variance = float(weight.var(unbiased=False))
    base = -math.log(epsilon) if epsilon else math.log(weight.numel())
    fall = base - softmax_entropy(weight, epsilon)
    assert fall == pytest.approx(base - closed(variance, weight.numel(), epsilon), rel=EWQ_CLOSED_FORM)


floats = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40)


@given(floats, st.sampled_from([0.0, 0.001, 0.01, 1.0]))
@settings(deadline=None, max_examples=60)
def test_bounds_order_and_shift(values: list[float], epsilon: float) -> None:
    weight = torch.tensor(values, dtype=torch.float64)
    found = softmax_entropy(weight, epsilon)
    count = len(values)
    assert found <= -math.log(1 / count + epsilon) + 1e-12, "equal probabilities have the largest entropy"
    assert found >= -math.log(1 + epsilon) - 1e-12, "one sure weight has the least"
    assert softmax_entropy(weight.flip(0), epsilon) == pytest.approx(found, abs=1e-12)
    assert softmax_entropy(weight - 7, epsilon) == pytest.approx(found, abs=1e-12)


def test_all_weights_equal() -> None:
    assert softmax_entropy(torch.full((8, 32), 0.3), 0.0) == pytest.approx(math.log(256), rel=1e-15)
    assert softmax_entropy(torch.full((1, 1), 0.3), 0.0) == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_weights_are_named(bad: float) -> None:
    weight = normal(4, 4)
    weight[2, 3] = bad
    with pytest.raises(CheckpointError, match=r"fc1\.weight holds NaN or infinity"):
        softmax_entropy(weight, name="fc1.weight")
    for wrong in (torch.zeros(0, 3), torch.zeros(2, 2, dtype=torch.int8)):
        with pytest.raises(CheckpointError, match=r"x is torch\."):
            softmax_entropy(wrong, name="x")


@pytest.mark.parametrize("epsilon", [-0.1, 2, True, "0.01", float("nan"), None])
def test_bad_epsilon(epsilon: float) -> None:
    with pytest.raises(SpecError, match=r"epsilon is .*; use a number from 0"):
        softmax_entropy(normal(2, 2), epsilon)


def test_blocks_are_weighted_by_parameters(tmp_path: Path) -> None:
    folder = tiny_opt(tmp_path / "m", dtype=torch.float16)
    calls: list[tuple[int, int]] = []
    checkpoint = Checkpoint.open(folder)
    facts = facts_of_config(checkpoint.config)
    found = block_entropies(checkpoint, facts, progress=lambda _, done, total: calls.append((done, total)))
    tensors = load_file(folder / "model.safetensors")
    for i, value in enumerate(found):
        own = {n: t for n, t in tensors.items() if f"layers.{i}." in n and n.endswith("weight") and t.ndim == 2}
        assert len(own) == 6
        size = sum(t.numel() for t in own.values())
        want = sum(t.numel() * float(literal(t, 0.01)) for t in own.values()) / size
        assert value == pytest.approx(want, rel=EWQ_ENTROPY)
    assert calls == [(1, 2), (2, 2)]
    assert found == block_entropies(checkpoint, facts)


def test_only_block_weights_count(tmp_path: Path) -> None:
    folder = tiny_opt(tmp_path / "m")
    checkpoint = Checkpoint.open(folder)
    before = block_entropies(checkpoint, facts_of_config(checkpoint.config))
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if "bias" in name or "embed" in name or "norm" in name:
            tensors[name] = tensors[name] + 1.0
    tensors["model.decoder.layers.1.fc1.weight"] *= 2
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    after = block_entropies(Checkpoint.open(folder), facts_of_config(folder))
    assert after[0] == before[0]
    assert after[1] < before[1], "more variance is less entropy"


def test_transposed_storage(tmp_path: Path) -> None:
    checkpoint = Checkpoint.open(save_random(TRANSPOSED, tmp_path / "m"))
    facts = facts_of_config(checkpoint.config)
    (first, _) = block_entropies(checkpoint, facts)
    names = [f"transformer.h.0.{n}.weight" for n in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]
    values = [softmax_entropy(checkpoint.tensor(n)) for n in names]
    assert first == weighted_mean(values, [checkpoint.tensor(n).numel() for n in names])


def test_weighted_mean() -> None:
    assert weighted_mean([1.0, 4.0], [2, 1]) == 2.0
    assert weighted_mean([4.6] * 3, [1, 2, 3]) == pytest.approx(4.6, rel=1e-15)


def test_one_piece_at_a_time_is_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy, "_PIECE", 64)
    sizes: list[int] = []
    double = torch.Tensor.double
    monkeypatch.setattr(torch.Tensor, "double", lambda t: sizes.append(t.numel()) or double(t))
    softmax_entropy(normal(10, 33).float())
    assert max(sizes) == 64
    assert sum(sizes) == 2 * 330
    assert np.isfinite(softmax_entropy(normal(3, 3)))
