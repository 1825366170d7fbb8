"""What every quantizer plug-in promises, whichever files lie in dareq_edge/quantizers."""

import dataclasses

import numpy as np
import pytest
import torch

from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.plan import QuantOptions
from dareq_edge.quantizers import build, names, takes
from dareq_edge.quantizers._grid import quantize
from dareq_edge.spec import QuantSpec

SPECS = [
    QuantSpec(4),
    QuantSpec(2),
    QuantSpec(3, 32),
    QuantSpec(8, 16),
    QuantSpec(4, 64, "bfloat16"),
    QuantSpec(8),
    QuantSpec(8, None, "bfloat16"),
]
every = pytest.mark.parametrize("method", names())
taken = pytest.mark.parametrize(("method", "spec"), [(m, s) for m in names() for s in SPECS if takes(m, s)], ids=str)


def weights(n=6, k=100, seed=0):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * 0.1


@taken
def test_shape_range_and_determinism(method, spec):
    w = weights()
    before, first, second = w.clone(), build(method)(w, spec), build(method)(w, spec)
    assert torch.equal(w, before)
    assert first.shape == (6, 100)
    assert first.scales.shape == (6, spec.groups(100))
    assert first.codes.max() < 2**spec.bits
    assert np.isfinite(first.scales).all()
    assert (first.scales != 0).all()
    assert np.array_equal(first.codes, second.codes)
    assert np.array_equal(first.scales, second.scales)
    assert np.abs(first.dequantize() - w.numpy()).max() < w.abs().max()


@taken
def test_awkward_rows(method, spec):
    w = torch.zeros(5, 100)
    w[1] = 0.25
    w[2, 17] = -3.0
    w[3] = weights()[0]
    w[3, 5] = 1000.0
    w[4] = 1e-41
    tensor = build(method)(w, spec)
    assert np.isfinite(tensor.scales).all()
    dequantized = tensor.dequantize()
    assert not dequantized[0].any()
    assert np.abs(dequantized[4]).max() <= 1e-40
    assert np.abs(dequantized[2][np.arange(100) != 17]).max() == 0
    assert np.isfinite(dequantized).all()


def plain(method, **more):
    """A form that the method exists in, per channel."""
    return next(s for s in (QuantSpec(4, **more), QuantSpec(8, **more)) if takes(method, s))


@every
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_name_the_tensor(method, bad):
    w = weights()
    w[3, 7] = bad
    with pytest.raises(CheckpointError, match=r"model\.fc1\.weight holds NaN or infinity"):
        build(method)(w, plain(method), "model.fc1.weight")


@every
@pytest.mark.parametrize("w", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), torch.zeros(0, 4)])
def test_only_floating_matrices(method, w):
    with pytest.raises(CheckpointError, match=r"x\.weight is torch"):
        build(method)(w, plain(method), "x.weight")


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_equal_their_float32_values(method, dtype):
    w = weights().to(dtype)
    got, want = (build(method)(v, plain(method)) for v in (w, w.float()))
    assert np.array_equal(got.codes, want.codes)
    assert np.array_equal(got.scales, want.scales)


@every
def test_bf16_scales_are_chosen_before_the_codes(method):
    w, spec = weights(), plain(method, scale_dtype="bfloat16")
    tensor = build(method)(w, spec)
    scales = torch.from_numpy(tensor.scales)
    assert torch.equal(scales, scales.bfloat16().float())
    assert np.array_equal(tensor.codes, quantize(w, spec, "w", lambda s, q: scales[:, 0]).codes)


@pytest.mark.parametrize("method", [m for m in names() if takes(m, QuantSpec(4, 64))])
def test_short_last_group_equals_a_matrix_of_its_own(method):
    w, spec = weights(), QuantSpec(4, 64)
    whole, tail = build(method)(w, spec), build(method)(w[:, 64:], QuantSpec(4))
    assert np.array_equal(whole.codes[:, 64:], tail.codes)
    assert np.array_equal(whole.scales[:, 1:], tail.scales)


@taken
def test_row_blocks_change_nothing(method, spec, monkeypatch):
    whole = build(method)(weights(), spec)
    monkeypatch.setattr("dareq_edge.quantizers._grid._CHUNK", 150)
    blocks = build(method)(weights(), spec)
    assert np.array_equal(whole.codes, blocks.codes)
    assert np.array_equal(whole.scales, blocks.scales)


@pytest.mark.parametrize(("method", "spec"), [(m, s) for m in names() for s in SPECS if not takes(m, s)], ids=str)
def test_a_form_that_does_not_exist_is_refused_before_any_work(method, spec):
    with pytest.raises(
        SpecError, match=rf"x\.weight: {method} has .*, not {spec.bits} bits, {spec.scheme}; use those"
    ):
        build(method)(weights(), spec, "x.weight")
    with pytest.raises(SpecError, match=f"{method} has .*; use those"):
        QuantOptions(bits=spec.bits, group_size=spec.group_size, method=method)


@every
def test_plugin_is_a_frozen_dataclass(method):
    quantizer = build(method)
    assert dataclasses.is_dataclass(quantizer)
    assert type(quantizer).__dataclass_params__.frozen
    with pytest.raises(SpecError, match=f"did you mean '{method}'"):
        build(method + "x")
