"""Scale search: the same choice as literal numpy loops, and what each setting does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dareq_edge.errors import CheckpointError
from dareq_edge.rounding.codes import expand, nearest
from dareq_edge.rounding.search import absmax_scales, search_scales
from dareq_edge.spec import QuantSpec
from tolerances import SEARCH_DECIBELS, SEARCH_ERROR


def draw(n: int = 3, k: int = 80, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, k, generator=generator).pow(3)  # long tails: clipping pays
    return weight, torch.rand(k, generator=generator).pow(4)


def objective(w: np.ndarray, h: np.ndarray, s: float, bits: int, power: int, rate: float) -> float:
    q = np.clip(np.rint(w / s), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    error = (h * np.abs(w - s * q) ** power).sum()
    p = np.unique(q, return_counts=True)[1] / len(q)
    return float(10 * np.log10(error) - rate * 6.0206 * (p * np.log2(p)).sum())


def literal(w: np.ndarray, h: np.ndarray, spec: QuantSpec, power: int, rate: float) -> float:
    """The least objective among all candidates of one segment."""
    half = 2 ** (spec.bits - 1)
    extreme = w[np.argmax(np.abs(w))]
    factors = [0.35 + 0.02 * i for i in range(36)] + [1]
    tried = [f * abs(extreme) / (half - 1) for f in factors] + [-f * extreme / half for f in factors]
    if spec.scale_dtype == "bfloat16":
        tried = torch.tensor(tried).bfloat16().double().tolist()
    return min(objective(w, h, s, spec.bits, power, rate) for s in tried)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("power", [2, 4, 8])
@pytest.mark.parametrize("spec", [QuantSpec(4), QuantSpec(3, 32), QuantSpec(4, 32, "bfloat16")], ids=str)
def test_as_good_as_the_best_of_literal_loops(spec: QuantSpec, power: int, rate: float) -> None:
    weight, h = draw()
    scales = search_scales(weight, h, spec, power=power, entropy_weight=rate)
    size = spec.group_size or weight.shape[1]
    assert scales.shape == (3, spec.groups(80))
    for n in range(len(weight)):
        for g in range(scales.shape[1]):
            w, some = weight[n, g * size : (g + 1) * size].double().numpy(), h[g * size : (g + 1) * size].numpy()
            got = objective(w, some, float(scales[n, g]), spec.bits, power, rate)
            assert got <= literal(w, some, spec, power, rate) + SEARCH_DECIBELS


@given(st.integers(0, 1000), st.sampled_from([2, 3, 4, 8]), st.sampled_from([None, 16]), st.floats(1e-30, 1e30))
def test_scales_are_legal_and_no_worse_than_absmax(seed: int, bits: int, group: int | None, size: float) -> None:
    weight, h = draw(3, 40, seed)
    weight, spec = weight * size, QuantSpec(bits, group, "bfloat16")
    scales = search_scales(weight, h, spec)
    assert torch.isfinite(scales).all()
    assert (scales != 0).all()
    assert torch.equal(scales, scales.bfloat16().float())

    def error(s: torch.Tensor) -> torch.Tensor:
        return (weight / size - nearest(weight, s, spec) * expand(s, spec, 40) / size).double().pow(2) @ h.double()

    assert (error(scales) <= error(absmax_scales(weight, spec)) * (1 + SEARCH_ERROR)).all()


def test_the_extreme_weight_may_take_the_lowest_code() -> None:
    for sign in (1, -1):
        weight = sign * torch.tensor([[8.0, -7, -6, 5, 4, 3, 2, 1]])
        found = search_scales(weight, None, QuantSpec(4), power=8)
        assert found.sign() == -sign
        assert search_scales(weight, None, QuantSpec(4), signed=False) > 0


def test_importance_decides_what_is_clipped() -> None:
    weight = torch.cat([torch.linspace(-1, 1, 63), torch.tensor([8.0])])[None]
    h = torch.ones(64)
    wide = search_scales(weight, h, QuantSpec(4)).abs()
    h[-1] = 0
    assert search_scales(weight, h, QuantSpec(4)).abs() < 0.7 * wide
    assert torch.equal(search_scales(weight, 1e-20 * torch.ones(64), QuantSpec(4)).abs(), wide)
    assert torch.equal(search_scales(weight, torch.zeros(64), QuantSpec(4)).abs(), wide)
    assert search_scales(weight, None, QuantSpec(4), power=8).abs() > wide


def entropy(weight: torch.Tensor, scales: torch.Tensor) -> float:
    p = torch.bincount(nearest(weight, scales, QuantSpec(4)).flatten().int() + 8) / weight.numel()
    return -float(torch.special.xlogy(p, p).sum() / np.log(2))


def test_entropy_weight_buys_fewer_bits() -> None:
    weight, _ = draw(64, 256)
    bits = [entropy(weight, search_scales(weight, None, QuantSpec(4), entropy_weight=e)) for e in (0, 0.5, 1.0, 2.0)]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < bits[0] - 0.2


def test_all_zero_segments_and_what_cannot_be_quantized() -> None:
    weight, h = draw(4, 48)
    weight[1], weight[2, 16:32] = 0, 0
    scales = search_scales(weight, h, QuantSpec(4, 16), entropy_weight=1.0)
    assert (scales[1] == 1).all()
    assert scales[2, 1] == 1
    weight[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match="fc1 holds NaN"):
        search_scales(weight, h, QuantSpec(4), name="fc1")


def test_rows_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, h = draw(33, 80)
    whole = search_scales(weight, h, QuantSpec(4, 16))
    monkeypatch.setattr("dareq_edge.rounding.search._SEGMENTS", 7)
    assert torch.equal(search_scales(weight, h, QuantSpec(4, 16)), whole)
    assert torch.equal(search_scales(weight[5:6], h, QuantSpec(4, 16)), whole[5:6])


def test_absmax_scales() -> None:
    weight, _ = draw(3, 40)
    assert torch.equal(absmax_scales(weight, QuantSpec(4, 32))[:, 1], weight[:, 32:].abs().amax(1) / 7)
