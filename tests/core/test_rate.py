"""Rounding for an entropy coder: steps, lengths and codes against literal references and brute force."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dareq_edge.recipes._dareq_block import Rounding
from dareq_edge.recipes._rate_rounding import RateParts, RateRounding
from dareq_edge.rounding.feedback import Factor, factorize, feedback
from dareq_edge.rounding.rate import (
    code_lengths,
    entropy,
    rate_feedback,
    relative_importance,
    step_sizes,
    without_feedback,
)
from dareq_edge.spec import QuantSpec
from tolerances import STEP_OPTIMUM

SPEC = QuantSpec(8, None)


def problem(n: int = 40, k: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(4 * k, k, generator=generator) * torch.linspace(0.3, 3, k)
    x[:, 1:] += 0.7 * x[:, :-1]
    return torch.randn(n, k, generator=generator) * 0.1, x.T @ x / len(x)


def literal(
    w: torch.Tensor, s: torch.Tensor, g: torch.Tensor, factor: Factor, lengths: torch.Tensor, slope: float
) -> torch.Tensor:
    """Algorithm of the module, weight by weight in float64."""
    u, x, q = factor.upper.double(), w.double()[:, factor.order].clone(), torch.zeros(w.shape, dtype=torch.int8)
    for i in range(len(w)):
        for j in range(w.shape[1]):
            near = int(torch.round(x[i, j] / s[i, 0].double()).clamp(-127, 127))
            costs = {}
            for code in {near, near - (near > 0) + (near < 0)}:
                error = float(x[i, j]) - code * float(s[i, 0])
                costs[code] = float(g[i]) * error**2 / float(u[j, j]) ** 2 / 2 + slope * float(lengths[code + 128])
            code = min(costs, key=lambda c: costs[c])
            q[i, factor.order[j]] = code
            x[i, j + 1 :] -= (x[i, j] - code * s[i, 0].double()) / u[j, j] * u[j, j + 1 :]
    return q


@pytest.mark.parametrize("slope", [1e-7, 1e-5, 1e-4])
def test_codes_are_those_of_the_algorithm(slope: float) -> None:
    weight, second = problem()
    importance = torch.linspace(0.5, 2, len(weight))
    factor = factorize(second, damping=0.01)
    scales = step_sizes(importance, factor, slope)[:, None]
    lengths = code_lengths((weight / scales).round().clamp(-127, 127).to(torch.int8))
    got = rate_feedback(weight, scales, importance, factor, lengths, slope)
    want = literal(weight, scales, importance, factor, lengths, slope)
    assert torch.equal(got, want)


def test_codes_without_lengths_are_those_of_plain_feedback() -> None:
    weight, second = problem()
    factor = factorize(second, damping=0.01)
    scales = torch.full((len(weight), 1), 0.01)
    got = rate_feedback(weight, scales, torch.ones(len(weight)), factor, torch.zeros(256), 1e-6)
    assert torch.equal(got, feedback(weight, second, scales, SPEC, factor=factor))


def test_step_is_where_error_and_bits_are_least_together() -> None:
    weight, second = problem(n=2000)
    factor, importance = factorize(second, damping=0.01), torch.full((2000,), 3.0)
    slope = 1e-5
    best = step_sizes(importance, factor, slope)

    def total(steps: torch.Tensor) -> float:
        q = rate_feedback(weight, steps[:, None], importance, factor, torch.zeros(256), slope)
        d = (weight - q * steps[:, None]).double()
        h = second.double()
        h.diagonal().add_(0.01 * h.diagonal().mean())
        return 3.0 / 2 * float(((d @ h) * d).sum()) + slope * q.numel() * entropy(q)

    factors = [2 ** (i / 8) for i in range(-8, 9)]
    found = min(factors, key=lambda f: total(f * best))
    assert abs(math.log2(found)) <= STEP_OPTIMUM


def test_lengths_are_of_an_ideal_coder() -> None:
    q = torch.tensor([0] * 2 + [1] + [-3], dtype=torch.int8).repeat(2000)
    lengths = code_lengths(q)
    assert entropy(q) == pytest.approx(1.5)
    assert torch.allclose(lengths[[128, 129, 125]], torch.tensor([1.0, 2.0, 2.0]), atol=0.01)
    assert bool((lengths[torch.tensor([0, 127, 255])] > 8).all())
    assert entropy(torch.zeros(5, dtype=torch.int8)) == 0


def test_without_feedback_columns_do_not_meet() -> None:
    _, second = problem()
    second[3] = second[:, 3] = 0
    factor = without_feedback(second)
    live = second.diagonal() > 0
    assert torch.allclose(factor.variances()[live], second.diagonal()[live])
    assert float(factor.variances()[3]) == pytest.approx(float(second.diagonal()[live].mean()))


def test_relative_importance_does_not_see_scale() -> None:
    weight, second = problem()
    g = relative_importance(weight, second)
    assert torch.allclose(relative_importance(weight * 8, second), g / 64)
    assert torch.equal(relative_importance(torch.zeros(3, 48), second), torch.ones(3))


def test_relative_importance_gives_the_steps_of_entquant() -> None:
    """sqrt(lambda / 32 mean|w_i| mean|W|), the closed form before its refinement, with one lambda per slope."""
    weight, second = problem()
    weight *= torch.linspace(0.2, 3, len(weight))[:, None]
    want = (weight.abs().mean(dim=1) * weight.abs().mean()).sqrt()
    found = []
    for inputs in (second, 7 * second):
        ratio = step_sizes(relative_importance(weight, inputs), without_feedback(inputs), 1e-3) / want
        assert torch.allclose(ratio, ratio.mean().expand_as(ratio))
        found.append(float(ratio.mean()))
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize(("turns", "largest"), [(False, 127), (True, 126)])
def test_no_step_is_so_fine_that_codes_run_out(turns: bool, largest: int) -> None:
    weight, second = problem()
    weight[0, 5] = 3.0
    parts = RateParts(correction=False, attention_moments=False, feedback=False, trellis=turns)
    q, s = RateRounding(parts, 1e-12)(weight, second, None, None, SPEC, "w")
    assert 120 < int(q.abs().max()) <= largest
    assert bool(((weight - q * s).abs() <= s * (2.0001 if turns else 0.5001)).all())


@pytest.mark.parametrize("with_output", [False, True])
def test_a_dearer_bit_buys_a_larger_error_with_fewer_bits(with_output: bool) -> None:
    weight, second = problem()
    output = torch.diag(torch.linspace(0.5, 2, len(weight))) if with_output else None
    parts = RateParts(correction=False, attention_moments=False, feedback=True, row_damping=0.1)
    seen = []
    for slope in (1e-6, 1e-5, 1e-4, 1e-3) if with_output else (1e-5, 1e-4, 1e-3, 1e-2):
        rounding: Rounding = RateRounding(parts, slope)
        q, s = rounding(weight, second, factorize(second), output, SPEC, "w")
        d = (weight - q * s).double()
        seen.append((entropy(q), float(((d @ second.double()) * d).sum())))
    assert seen == sorted(seen, key=lambda p: -p[0])
    assert [e for _, e in seen] == sorted(e for _, e in seen)


def test_counting_bits_beats_rounding_to_nearest_at_the_same_slope() -> None:
    weight, second = problem(n=400)
    factor = factorize(second, damping=0.01)
    parts = RateParts(correction=False, attention_moments=False, feedback=True)
    slope = 2e-2

    def total(passes: int) -> float:
        q, s = RateRounding(replace(parts, passes=passes), slope)(weight, second, factor, None, SPEC, "w")
        d = (weight - q * s).double()
        g = float(relative_importance(weight, second)[0])
        return g / 2 * float(((d @ second.double()) * d).sum()) + slope * q.numel() * entropy(q)

    assert total(3) < total(1)
