"""EntQuant's scales and codes against literal float64 loops, the published solver, and what they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dareq_edge.errors import SpecError
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantizers import _entquant_numba, _entquant_torch
from dareq_edge.quantizers._rate import entropy_bits, solve
from dareq_edge.quantizers.entquant import EntQuant
from dareq_edge.spec import QuantSpec
from tolerances import (
    ENTQUANT_ENTROPY,
    ENTQUANT_L1,
    ENTQUANT_OBJECTIVE,
    ENTQUANT_RATE,
    ENTQUANT_RESIDUAL,
    ENTQUANT_STEP,
)

SPEC = QuantSpec(8, None, "float32", "entquant")
BF16 = QuantSpec(8, None, "bfloat16", "entquant")
LAMBDAS = (0.5, 3.9, 14.5, 58.0, 200.0)


def weights(kind: str = "gauss", n: int = 24, k: int = 2000, seed: int = 0) -> NDArray[np.float32]:
    g = np.random.default_rng(seed)
    w = g.standard_normal((n, k)) if kind == "gauss" else g.standard_t(5, (n, k))
    return (w * 0.05 * np.exp(0.3 * g.standard_normal((n, 1)))).astype(np.float32)


def quantized(w: NDArray[np.float32], spec: QuantSpec = SPEC, **settings: Any) -> QuantizedTensor:
    return EntQuant(**settings)(torch.from_numpy(w), spec)


def relative_l1(w: NDArray[np.float32], value: QuantizedTensor) -> float:
    return float(np.abs(value.dequantize() - w).sum(dtype=np.float64) / np.abs(w).sum(dtype=np.float64))


def objective(w: NDArray[np.float32], value: QuantizedTensor, lam: float) -> float:
    """As published."""
    return relative_l1(w, value) + lam * float(np.abs(value.codes.astype(float) - 128).mean()) / 128


def literal_slope(row: NDArray[np.float64], scale: float, pull: float) -> float:
    """What pulls the scale up over what pulls it down, written out weight by weight."""
    up, down = 0.0, 0.0
    for x in (row / scale).tolist():
        q = round(x)
        if -128 <= q <= 127:
            down += abs(x - q)
            up += pull / scale * abs(x) if q else 0.0
        else:
            up += 127 if q > 0 else 128
    return up / down


@pytest.mark.parametrize("kind", ["gauss", "heavy"])
@pytest.mark.parametrize("lam", LAMBDAS)
def test_every_row_solves_its_equation(kind: str, lam: float) -> None:
    w = weights(kind)
    value = quantized(w, lam=lam)
    pull = lam / 128 * float(np.abs(w).mean(dtype=np.float64))
    for row, scale in zip(w.astype(np.float64), value.scales[:, 0].tolist(), strict=True):
        # the sums jump where a weight starts to be clipped
        assert literal_slope(row, scale * (1 - ENTQUANT_RESIDUAL), pull) > 1
        assert literal_slope(row, scale * (1 + ENTQUANT_RESIDUAL), pull) < 1


@pytest.mark.parametrize("lam", [3.9, 14.5, 58.0])
def test_the_published_solver_ends_on_the_same_curve(lam: float) -> None:
    w = weights("heavy", 64, 768)
    theirs, ours = quantized(w, lam=lam, scale="lbfgs"), quantized(w, lam=lam)
    assert abs(entropy_bits(ours.codes) - entropy_bits(theirs.codes)) < ENTQUANT_ENTROPY
    same_rate = quantized(w, target_bits=entropy_bits(theirs.codes))
    assert abs(relative_l1(w, same_rate) / relative_l1(w, theirs) - 1) < ENTQUANT_L1
    assert objective(w, ours, lam) < objective(w, theirs, lam) * (1 + ENTQUANT_L1)


def test_the_rates_of_the_published_lambdas() -> None:
    w = weights("gauss", 200, 1000)
    for lam, bits in ((3.9, 3.89), (14.5, 2.94), (58.0, 1.94)):  # 4.873 - log2(lambda) / 2
        assert abs(entropy_bits(quantized(w, lam=lam).codes) - bits) < 0.2


@pytest.mark.parametrize("codes", ["int8", "float8"])
@pytest.mark.parametrize("lam", LAMBDAS)
def test_the_kernel_and_torch_take_the_same_steps(codes: str, lam: float) -> None:
    w = weights("heavy")
    w[3, 7] = 500.0
    mean = np.abs(w).mean(axis=1, dtype=np.float64)
    start, pull = np.sqrt(lam / 32 * mean * mean.mean()), lam / 128 * float(mean.mean())
    start[5] = 0.0
    kernel = _entquant_numba.refine(w, start, pull, float8=codes == "float8")
    plain = _entquant_torch.refine(torch.from_numpy(w), torch.from_numpy(start), pull, float8=codes == "float8")
    assert kernel[5] == plain[5] == 0
    np.testing.assert_allclose(kernel, plain.numpy(), rtol=ENTQUANT_STEP)


def test_rows_meet_only_in_the_mean() -> None:
    w = weights("heavy")
    order = np.random.default_rng(1).permutation(len(w))
    whole, mixed = quantized(w), quantized(w[order])
    assert np.array_equal(whole.scales[order], mixed.scales)
    assert np.array_equal(whole.codes[order], mixed.codes)


@pytest.mark.parametrize("exponent", [-90, -1, 3, 90])
def test_a_power_of_two_scales_the_scales_and_keeps_the_codes(exponent: int) -> None:
    w = weights("heavy", 8, 300)
    one, other = quantized(w), quantized(w * np.float32(2.0**exponent))
    assert np.array_equal(one.codes, other.codes)
    assert np.array_equal(one.scales * np.float32(2.0**exponent), other.scales)


def test_zero_rows_change_the_mean_alone() -> None:
    w = weights(n=6)
    w[2] = 0
    for scale in ("closed_form", "lbfgs"):
        value = quantized(w, scale=scale, lam=14.5)
        assert value.scales[2, 0] == 1
        assert (value.codes[2] == 128).all()
        assert (value.codes[[0, 1, 3, 4, 5]] != 128).any(axis=1).all()
    assert (quantized(np.zeros((3, 40), np.float32), scale="lbfgs").codes == 128).all()


@pytest.mark.parametrize("outliers", [0, 1, 20])
@pytest.mark.parametrize("lam", [0.5, 3.9])
def test_clipped_weights_count_as_what_they_are(outliers: int, lam: float) -> None:
    """At high rates the scale is the objective's least, also where the published gradient is wrong about clipping."""
    w = weights(n=1, k=20_000)
    w[0, : 10 * outliers] = 40 * np.abs(w).max()
    value = quantized(w, lam=lam)
    assert (value.codes == 255).sum() == 10 * outliers
    others = [objective(w, _at(w, float(value.scales[0, 0]) * 2 ** (i / 16)), lam) for i in range(-24, 25)]
    assert objective(w, value, lam) < min(others) * (1 + ENTQUANT_OBJECTIVE)


def _at(w: NDArray[np.float32], scale: float) -> QuantizedTensor:
    codes = (np.clip(np.rint(w / np.float32(scale)), -128, 127) + 128).astype(np.uint8)
    return QuantizedTensor(codes, np.full((len(w), 1), scale, np.float32), SPEC)


@pytest.mark.parametrize("codes", ["int8", "float8"])
@pytest.mark.parametrize("bits", [1.0, 2.0, 2.5, 3.0, 4.0, 5.5, 6.5])
def test_target_bits(codes: str, bits: float) -> None:
    value = quantized(weights("heavy", 64, 1000), BF16, codes=codes, target_bits=bits)
    # E4M3 has four significant bits: beyond that its codes get no finer
    assert abs(entropy_bits(value.codes) - bits) < ENTQUANT_RATE or (codes == "float8" and bits > 4)


def test_what_no_codes_can_have_gets_the_nearest() -> None:
    w = weights(n=2, k=16)
    assert entropy_bits(quantized(w, target_bits=8.0).codes) == pytest.approx(5, abs=0.6)  # 32 codes
    assert entropy_bits(quantized(w, target_bits=0.5).codes) < 1


def test_solve_finds_a_falling_rate() -> None:
    seen = []

    def rate(lam: float) -> float:
        seen.append(lam)
        return 9 / (1 + lam**0.3)

    for wanted in (0.5, 3.0, 6.5):
        lam, found = solve(rate, wanted, 1e-3)
        assert found == rate(lam)
        assert abs(found - wanted) < 1e-3
    assert len(seen) < 40
    assert solve(lambda lam: 3.0, 2.0, 1e-3)[1] == 3.0


def test_entropy() -> None:
    assert entropy_bits(np.full((3, 4), 7, np.uint8)) == 0
    assert entropy_bits(np.arange(256, dtype=np.uint8)) == 8
    p = np.array([1, 2, 5]) / 8
    assert entropy_bits(np.repeat(np.array([0, 9, 255], np.uint8), [1, 2, 5])) == pytest.approx(
        -(p * np.log2(p)).sum()
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scale": "best"}, "scale is 'best'; use closed_form or lbfgs"),
        ({"codes": "int4"}, "codes is 'int4'; use int8 or float8"),
        ({"lam": 0}, "lam is 0; use a number from 0.01"),
        ({"lam": math.nan}, "lam is nan"),
        ({"lam": "3"}, "lam is '3'"),
        ({"target_bits": 9}, "target_bits is 9; use a number from 0.5 to 8"),
        ({"target_bits": True}, "target_bits is True"),
        ({"lam": 3.9, "target_bits": 3}, "give one of them"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        EntQuant(**settings)


def test_a_solver_without_an_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from dareq_edge.errors import CheckpointError
    from dareq_edge.quantizers import _entquant_lbfgs

    rates = []

    def never(
        w: torch.Tensor, start: torch.Tensor, lam: float, rate: float, share: float, *, float8: bool
    ) -> torch.Tensor:
        rates.append(rate)
        return torch.full_like(start, torch.nan)

    monkeypatch.setattr(_entquant_lbfgs, "_solve", never)
    with pytest.raises(CheckpointError, match=r"x\.weight: L-BFGS finds no scales; use scale=closed_form"):
        EntQuant("lbfgs", lam=58.0)(torch.from_numpy(weights(n=2)), SPEC, "x.weight")
    assert rates[:3] == [0.25, 0.125, 0.0625]
