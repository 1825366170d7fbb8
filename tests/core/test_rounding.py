"""Error feedback and coordinate descent against literal float64 loops, brute force, and what must always hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from dareq_edge.blockwise.moments import Moments
from dareq_edge.errors import CheckpointError
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantizers import build
from dareq_edge.rounding.codes import nearest, output_error, to_quantized
from dareq_edge.rounding.damping import inverse_factor
from dareq_edge.rounding.descent import descend
from dareq_edge.rounding.feedback import feedback
from dareq_edge.spec import QuantSpec
from tolerances import DESCENT, INVERSE_FACTOR, MOMENTS, MOMENTS_GAP_BF16

SPECS = [QuantSpec(4), QuantSpec(3, 16), QuantSpec(8, 32), QuantSpec(2, scale_dtype="bfloat16")]


def problem(
    spec: QuantSpec, n: int = 9, k: int = 56, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """W, H of correlated inputs with a few loud channels, absmax scales; K = 56 leaves a short last group."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, k, generator=generator)
    x = torch.randn(400, k, generator=generator) @ torch.randn(k, k, generator=generator)
    x[:, ::7] *= 5
    scales = torch.from_numpy(build("rtn")(weight, spec).scales)
    return weight, x.T @ x / len(x), scales


def literal_gptq(
    weight: np.ndarray, second: np.ndarray, scales: np.ndarray, spec: QuantSpec, act_order: bool, damping: float
) -> np.ndarray:
    """Equations 2 and 3 of the paper, one column at a time, the inverse updated after each."""
    n, k = weight.shape
    w, zero = weight.astype(np.float64).copy(), spec.zero_point
    inverse = np.linalg.inv(second.astype(np.float64) + damping * np.mean(np.diag(second)) * np.eye(k))
    order = np.argsort(-np.diag(second), kind="stable") if act_order else np.arange(k)
    codes, left = np.zeros((n, k), dtype=np.int8), list(order)
    for j in order:
        s = scales[:, j // spec.group_size if spec.group_size else 0].astype(np.float64)
        codes[:, j] = np.clip(np.rint(w[:, j] / s), -zero, zero - 1)
        error = (w[:, j] - s * codes[:, j]) / inverse[j, j]
        left.remove(j)
        w[:, left] -= np.outer(error, inverse[j, left])
        inverse -= np.outer(inverse[:, j], inverse[j, :]) / inverse[j, j]
    return codes


@pytest.mark.parametrize("act_order", [True, False])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_feedback_is_the_literal_method(spec: QuantSpec, act_order: bool) -> None:
    weight, second, scales = problem(spec)
    want = literal_gptq(weight.numpy(), second.numpy(), scales.numpy(), spec, act_order, 0.01)
    got = feedback(weight, second, scales, spec, act_order=act_order)
    assert np.array_equal(got.numpy(), want)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_feedback_without_correlation_is_nearest(spec: QuantSpec) -> None:
    weight, _, scales = problem(spec)
    second = torch.diag(torch.rand(56) + 0.1)
    assert torch.equal(feedback(weight, second, scales, spec), nearest(weight, scales, spec))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_feedback_lowers_the_output_error(spec: QuantSpec) -> None:
    weight, second, scales = problem(spec)
    error = [
        output_error(weight, second, q, scales, spec).sum()
        for q in (nearest(weight, scales, spec), feedback(weight, second, scales, spec))
    ]
    assert error[1] < 0.8 * error[0]


def test_nearest_is_what_the_plain_quantizer_stores() -> None:
    weight, _, scales = problem(SPECS[1])
    plain = build("rtn")(weight, SPECS[1])
    assert np.array_equal(to_quantized(nearest(weight, scales, SPECS[1]), scales, SPECS[1]).codes, plain.codes)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_stored_codes_dequantize_to_scale_times_code(bits: int) -> None:
    spec, zero = QuantSpec(bits), 1 << (bits - 1)
    q = torch.arange(-zero, zero, dtype=torch.int16).to(torch.int8)[None]
    stored = to_quantized(q, torch.tensor([[-0.5]]), spec)
    assert isinstance(stored, QuantizedTensor)
    assert np.array_equal(stored.dequantize()[0], -0.5 * np.arange(-zero, zero, dtype=np.float32))


def test_the_factor_is_that_of_the_inverse() -> None:
    _, second, _ = problem(SPECS[0])
    damped = second.double() + 0.01 * second.diagonal().mean().double() * torch.eye(56)
    want = torch.linalg.cholesky(torch.linalg.inv(damped), upper=True)
    got = inverse_factor(second, 0.01, "x")
    assert (got - want).abs().max() <= INVERSE_FACTOR * want.abs().max()


def test_dead_channels_are_rounded_to_nearest_and_disturb_nobody() -> None:
    spec = QuantSpec(4)
    weight, second, scales = problem(spec)
    dead = torch.zeros(56, dtype=torch.bool)
    dead[[0, 20, 55]] = True
    second[dead] = 0
    second[:, dead] = 0
    q = feedback(weight, second, scales, spec)
    assert torch.equal(q[:, dead], nearest(weight, scales, spec)[:, dead])
    alone = feedback(weight[:, ~dead], second[~dead][:, ~dead], scales, spec)
    assert torch.equal(q[:, ~dead], alone)
    better, _ = descend(weight, second, q, scales, spec, damping=0.0, refit=False)
    assert torch.equal(better[:, dead], q[:, dead])


def test_no_input_at_all_is_nearest() -> None:
    spec = QuantSpec(4)
    weight, second, scales = problem(spec)
    q = feedback(weight, torch.zeros_like(second), scales, spec)
    assert torch.equal(q, nearest(weight, scales, spec))
    assert torch.equal(descend(weight, torch.zeros_like(second), q, scales, spec)[0], q)


def test_a_singular_moment_is_damped_until_it_works() -> None:
    x = torch.randn(5, 56, generator=torch.Generator().manual_seed(0))  # rank 5
    factor = inverse_factor(x.T @ x, 0.0, "x")
    assert torch.isfinite(factor).all()


def test_what_cannot_be_damped_names_the_layer() -> None:
    indefinite = torch.ones(8, 8) - 10 * torch.eye(8)
    indefinite.fill_diagonal_(0.1)
    with pytest.raises(CheckpointError, match=r"inputs of layer\.3 is not positive definite even with damping 1"):
        inverse_factor(indefinite, 0.01, "layer.3")
    with pytest.raises(CheckpointError, match=r"inputs of layer\.3 hold NaN"):
        inverse_factor(torch.full((4, 4), torch.nan), 0.01, "layer.3")
    with pytest.raises(CheckpointError, match=r"layer\.3 holds NaN"):
        feedback(torch.full((2, 4), torch.nan), torch.eye(4), torch.ones(2, 1), QuantSpec(4), name="layer.3")


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_no_sweep_raises_the_error(spec: QuantSpec, refit: bool) -> None:
    weight, second, scales = problem(spec, seed=1)
    q = nearest(weight, scales, spec)
    error = output_error(weight, second, q, scales, spec)
    first = error
    for _ in range(6):
        q, scales = descend(weight, second, q, scales, spec, sweeps=1, refit=refit, damping=0.0)
        after = output_error(weight, second, q, scales, spec)
        assert (after <= error * (1 + DESCENT)).all()
        error = after
    assert error.sum() < 0.8 * first.sum()
    if spec.scale_dtype == "bfloat16":
        assert torch.equal(scales, scales.bfloat16().float())


@pytest.mark.parametrize("n", [1, 16, 35])
def test_descent_is_the_literal_method(n: int) -> None:
    spec = QuantSpec(4, 16)
    weight, second, scales = problem(spec, n=n, seed=2)
    start = nearest(weight, scales, spec)
    got, _ = descend(weight, second, start, scales, spec, sweeps=2, refit=False, damping=0.01)
    w, s = weight.double().numpy(), scales.double().repeat_interleave(16, dim=1)[:, :56].numpy()
    h = second.double().numpy() + 0.01 * second.diagonal().double().mean().item() * np.eye(56)
    q = start.double().numpy()
    for _, j in itertools.product(range(2), range(56)):
        others = w - s * q
        others[:, j] = w[:, j]  # the error if code j were 0
        q[:, j] = np.clip(np.rint(others @ h[:, j] / (h[j, j] * s[:, j])), -8, 7)
    assert np.array_equal(got.numpy(), q)


def test_descent_ends_where_no_single_code_can_be_bettered() -> None:
    spec = QuantSpec(2)
    weight, second, scales = problem(spec, n=4, k=6, seed=3)
    q, _ = descend(weight, second, nearest(weight, scales, spec), scales, spec, sweeps=99, refit=False, damping=0.0)
    best = output_error(weight, second, q, scales, spec)
    for j, code in itertools.product(range(6), range(-2, 2)):
        other = q.clone()
        other[:, j] = code
        assert (output_error(weight, second, other, scales, spec) >= best * (1 - DESCENT)).all()
    every = torch.tensor(list(itertools.product(range(-2, 2), repeat=6)), dtype=torch.int8)
    for row in range(4):
        target, scale = weight[row : row + 1].expand(len(every), -1), scales[row : row + 1].expand(len(every), -1)
        least = output_error(target, second, every, scale, spec).min()
        assert least * (1 - DESCENT) <= best[row] <= 3 * least + 1e-9


def test_refit_is_the_closed_form() -> None:
    spec = QuantSpec(4)
    weight, second, scales = problem(spec, seed=4)
    q = nearest(weight, scales, spec)
    _, got = descend(weight, second, q, scales, spec, sweeps=1, damping=0.0)
    through = q.double() @ second.double()
    want = (weight * through).sum(1) / (q * through).sum(1)
    assert torch.allclose(got[:, 0].double(), want, rtol=DESCENT, atol=0)


def test_moments_against_numpy() -> None:
    generator = torch.Generator().manual_seed(5)
    x, y, weights = (torch.randn(6, 7, k, generator=generator) for k in (5, 5, 1))
    weights = weights[..., 0].abs()
    moments, plain = Moments(5, cross=True), Moments(5)
    for part in (slice(0, 4), slice(4, 6)):
        moments.add(x[part], reference=y[part], weights=weights[part])
        plain.add(x[part])
    flat, other, per = (t.double().reshape(42, -1).numpy() for t in (x, y, weights))
    total = per.sum()
    for got, want in (
        (moments.second, (flat * per).T @ flat / total),
        (moments.cross, (other * per).T @ flat / total),
        (moments.mean, (flat * per).sum(0) / total),
        (plain.second, flat.T @ flat / 42),
        (plain.mean, flat.mean(0)),
    ):
        assert np.allclose(got.numpy(), want, rtol=0, atol=MOMENTS)
    assert torch.equal(plain.second, plain.second.T)


def test_moments_wider_than_a_strip_are_whole() -> None:
    x = torch.randn(50, 800, generator=torch.Generator().manual_seed(0))
    moments = Moments(800)
    moments.add(x)
    assert np.allclose(moments.second.numpy(), (x.double().T @ x.double() / 50).numpy(), rtol=0, atol=MOMENTS)


def test_cross_moments_of_bfloat16_inputs_keep_small_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4096, 24, generator=generator).bfloat16()
    y = (
        x.float() + 0.02 * torch.randn(4096, 24, generator=generator) @ torch.randn(24, 24, generator=generator)
    ).bfloat16()
    moments = Moments(24, cross=True)
    for part in range(0, 4096, 512):
        moments.add(x[part : part + 512], reference=y[part : part + 512])
    gap = ((y.double() - x.double()).T @ x.double() / 4096).numpy()
    got = (moments.cross - moments.second).numpy()
    assert np.abs(got - gap).max() <= MOMENTS_GAP_BF16 * np.abs(gap).max()
