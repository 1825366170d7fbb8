"""What every plug-in in dareq_edge/dequantized promises, and each against a literal numpy version of its source."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dareq_edge.dequantized import build, names
from dareq_edge.dequantized.nf4 import LEVELS, dynamic_map
from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.spec import QuantSpec
from tolerances import DEQUANTIZED, HQQ_BINADE

EVERY = pytest.mark.parametrize("method", names())
COMMON = QuantSpec(4, 64)  # the form that every method here has
# Up to 3: the float16 zero point of a constant row, at HQQ's largest inverse scale 2e4, ends at 3.27.
ROWS = arrays(np.float32, st.tuples(st.integers(1, 3), st.just(64)), elements=st.floats(-3, 3, width=32))


def weights(n=6, k=128, seed=0, size=0.1):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * size


@EVERY
def test_shape_device_and_determinism(method):
    w = weights()
    before, first, second = w.clone(), build(method)(w, COMMON), build(method)(w, COMMON)
    assert torch.equal(w, before)
    assert first.shape == w.shape
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert 0 < (first - w).abs().max() < 0.2 * w.abs().max()
    assert all(len(block.unique()) <= 16 for block in first.reshape(-1, 64))


@EVERY
def test_awkward_rows(method):
    w = torch.zeros(5, 64)
    w[1] = 0.25
    w[2, 17] = -3.0
    w[3] = weights()[0, :64]
    w[3, 5] = 1000.0
    w[4] = 1e-41
    out = build(method)(w, COMMON)
    assert torch.isfinite(out).all()
    assert not out[0].any()
    assert (out[1] - 0.25).abs().max() <= DEQUANTIZED * 0.25
    assert (out[2, 17] + 3).abs() <= DEQUANTIZED * 3
    assert (out[3, 5] - 1000).abs() <= DEQUANTIZED * 1000
    assert out[4].abs().max() <= 1e-40


@EVERY
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_name_the_tensor(method, bad):
    w = weights()
    w[3, 7] = bad
    with pytest.raises(CheckpointError, match=r"model\.fc1\.weight holds NaN or infinity"):
        build(method)(w, COMMON, "model.fc1.weight")


@EVERY
@pytest.mark.parametrize("w", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), torch.zeros(0, 4)])
def test_only_floating_matrices(method, w):
    with pytest.raises(CheckpointError, match=r"x\.weight is torch"):
        build(method)(w, COMMON, "x.weight")


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_equal_their_float32_values(method, dtype):
    w = weights().to(dtype)
    assert torch.equal(build(method)(w, COMMON), build(method)(w.float(), COMMON))


@EVERY
def test_what_does_not_exist_is_refused_with_its_size(method):
    plugin = build(method)
    for spec in (QuantSpec(4, 64, "bfloat16"), QuantSpec(7, 64)):
        for call in (lambda s=spec: plugin(weights(), s), lambda s=spec: plugin.bits_per_weight(128, s)):
            with pytest.raises(SpecError, match="; use "):
                call()


@EVERY
def test_plugin_is_a_frozen_dataclass(method):
    plugin = build(method)
    assert dataclasses.is_dataclass(plugin)
    assert type(plugin).__dataclass_params__.frozen
    assert plugin.bits_per_weight(768, COMMON) >= 4
    with pytest.raises(SpecError, match=f"did you mean '{method}'"):
        build(method + "x")
    with pytest.raises(SpecError, match="does not have"):
        build(method, {"nonsense": 1})


@EVERY
@settings(max_examples=30, deadline=None)
@given(w=ROWS)
def test_a_row_is_quantized_into_its_own_range(method, w):
    out = build(method)(torch.from_numpy(w), COMMON).numpy()
    half = np.ptp(w, axis=1, keepdims=True) + np.abs(w).max(axis=1, keepdims=True)
    assert (np.abs(out - w) <= 0.2 * half + 1e-4).all()


# -- NF4 -----------------------------------------------------------------------------------------------------------

# bitsandbytes@c037a30 csrc/kernels.cu, dQuantizeNF4: the constants its comparisons are made with.
THRESHOLDS = [
    -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
    -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
    0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011,
]  # fmt: skip


def literal_nf4(w, size):
    flat, out = w.ravel(), np.zeros(w.size, np.float32)
    for start in range(0, len(flat), size):
        block = flat[start : start + size]
        absmax = np.float32(np.abs(block).max())
        for i, value in enumerate(block if absmax > 0 else ()):
            normed = value * (np.float32(1) / absmax)
            out[start + i] = np.float32(LEVELS[sum(normed > np.float32(t) for t in THRESHOLDS)]) * absmax
    return out.reshape(w.shape)


@pytest.mark.parametrize(("shape", "size"), [((6, 128), 64), ((5, 100), 64), ((3, 90), 128), ((2, 300), 256)])
def test_nf4_equals_the_literal_one(shape, size):
    w = weights(*shape)
    w[1] = 0
    assert np.array_equal(build("nf4")(w, QuantSpec(4, size)).numpy(), literal_nf4(w.numpy(), size))


def published_fp4(x):
    """The published kernel's decisions about a magnitude in [0, 1], and its levels."""
    for above, level in [
        (0.8333333, 12),
        (0.583333, 8),
        (0.4166667, 6),
        (0.29166667, 4),
        (0.20833333, 3),
        (0.0859375, 2),
        (0.00260417, 0.0625),
    ]:
        if x > above:
            return level / 12
    return 0.0


@pytest.mark.parametrize("size", [64, 128])
def test_fp4_equals_the_published_decisions(size):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(6, 2 * size)).astype(np.float32)
    w[0] *= 1e-3
    w[1, :size] = 0
    blocks = w.reshape(-1, size)
    absmax = np.abs(blocks).max(axis=1, keepdims=True)
    near = np.abs(blocks) / np.where(absmax == 0, 1, absmax)
    want = np.vectorize(published_fp4)(near) * np.sign(blocks) * absmax
    got = build("fp4")(torch.from_numpy(w), QuantSpec(4, size)).numpy().reshape(-1, size)
    assert np.allclose(got, want, rtol=1e-6, atol=0)
    assert not got[2].any(), "a block of zeros stays zero"
    assert build("fp4").bits_per_weight(99, QuantSpec(4, size)) == 4 + 32 / size
    with pytest.raises(SpecError, match="fp4 has no form"):
        build("fp4")(torch.from_numpy(w), QuantSpec(4, 32))


def test_nf4_decides_at_the_published_thresholds():
    t = np.float32(THRESHOLDS)
    row = np.concatenate([[1], t, np.nextafter(t, np.float32(2)), np.zeros(33)]).astype(np.float32)
    out = build("nf4")(torch.from_numpy(row[None]), COMMON)[0].numpy()
    assert np.array_equal(out[1:16], np.float32(LEVELS[:15]))
    assert np.array_equal(out[16:31], np.float32(LEVELS[1:]))


@settings(max_examples=30, deadline=None)
@given(w=ROWS, exponent=st.integers(-40, 40))
def test_nf4_follows_a_power_of_two(w, exponent):
    w[np.abs(w) < 1e-15] = 0
    factor = np.float32(2.0**exponent)
    one, other = (build("nf4")(torch.from_numpy(v), COMMON).numpy() for v in (w, w * factor))
    assert np.array_equal(one * factor, other)


def test_the_dynamic_map_is_the_published_one():
    levels = dynamic_map().numpy()
    assert len(levels) == 256
    assert (np.diff(levels) > 0).all()
    assert levels[127] == 0
    assert levels[-1] == 1
    # bitsandbytes' well-known first and last values of create_dynamic_map(signed=True): -0.99297, 0.99297.
    assert levels[0] == pytest.approx(-(1 + 0.9859375) / 2)
    assert levels[-2] == pytest.approx((1 + 0.9859375) / 2)
    assert levels[128] == pytest.approx(5.5e-7)


def literal_double(absmax):
    mean = absmax.mean()
    out, levels = np.empty_like(absmax), dynamic_map().numpy()
    for start in range(0, len(absmax), 256):
        block = absmax[start : start + 256] - mean
        top = np.abs(block).max()
        for i, value in enumerate(block):
            out[start + i] = levels[np.argmin(np.abs(levels - value / top))] * top + mean
    return out


def test_double_quantization_replaces_absmax_by_its_eight_bits():
    w = weights(70, 512)
    plain, double = (build("nf4", {"double": flag})(w, COMMON).numpy().reshape(-1, 64) for flag in (False, True))
    absmax = np.abs(w.numpy()).reshape(-1, 64).max(axis=1)
    want = plain / absmax[:, None] * literal_double(absmax)[:, None]
    assert np.abs(double - want).max() <= DEQUANTIZED * absmax.max()
    assert 0 < np.abs(double - plain).max() < 0.02 * absmax.max()


@pytest.mark.parametrize(
    ("group", "double", "bits"), [(64, False, 4.5), (128, False, 4.25), (64, True, 4 + 8 / 64 + 32 / 64 / 256)]
)
def test_nf4_size(group, double, bits):
    assert build("nf4", {"double": double}).bits_per_weight(768, QuantSpec(4, group)) == bits


@pytest.mark.parametrize("spec", [QuantSpec(4), QuantSpec(3, 64), QuantSpec(4, 32)])
def test_nf4_has_one_form(spec):
    with pytest.raises(SpecError, match="nf4 has no form"):
        build("nf4")(weights(), spec)


# -- HQQ -----------------------------------------------------------------------------------------------------------


def literal_hqq(groups, bits, iterations=20):
    """mobiusml/hqq@b21fe87 optimize_weights_proximal_legacy, one group per row, in float64 and in plain loops."""
    top, beta, least = 2**bits - 1, 10.0, 1e4
    low, high = groups.min(axis=1), groups.max(axis=1)
    scale = np.minimum(top / (high - low), 2e4)
    zero = -low * scale
    if bits == 4:
        zero = np.round(zero)
    used = 0
    for _ in range(iterations):
        errors, new = [], zero.copy()
        for g, w in enumerate(groups):
            codes = np.array([min(max(round(x * scale[g] + zero[g]), 0), top) for x in w])
            difference = w - (codes - zero[g]) / scale[g]
            shrunk = [np.sign(d) * max(abs(d) - abs(d) ** -0.3 / beta, 0) if d else 0.0 for d in difference]
            new[g] = np.mean(codes - (w - shrunk) * scale[g])
            errors.extend(abs(difference))
        zero, beta, used = new, beta * 1.01, used + 1
        if np.mean(errors) >= least:
            break
        least = np.mean(errors)
    codes = np.clip(np.round(groups * scale[:, None] + zero[:, None]), 0, top)
    return (codes - zero[:, None]) / scale[:, None], used


@pytest.mark.parametrize(("bits", "group"), [(4, 64), (4, None), (3, 64), (2, 32), (8, 64)])
@pytest.mark.parametrize("size", [0.05, 5.0])  # with large weights the shrinkage acts, with small ones it is zero
def test_hqq_equals_the_literal_one(bits, group, size):
    w = weights(4, 128, seed=bits, size=size)
    want, used = literal_hqq(w.double().numpy().reshape(-1, group or 128), bits)
    assert used > 1
    out = build("hqq", {"stored": "float32"})(w, QuantSpec(bits, group)).numpy()
    assert np.abs(out - want.reshape(out.shape)).max() <= DEQUANTIZED * np.abs(want).max()


def test_hqq_stops_after_the_first_iteration_that_does_not_help():
    w = weights(4, 128, seed=2, size=1.0)  # here the last zero points, which are kept, are worse than those before
    _, used = literal_hqq(w.double().numpy().reshape(-1, 64), 4)
    assert 1 < used < 20
    out = build("hqq", {"stored": "float32", "iterations": used})(w, COMMON)
    assert torch.equal(out, build("hqq", {"stored": "float32"})(w, COMMON))
    assert not torch.equal(out, build("hqq", {"stored": "float32", "iterations": used - 1})(w, COMMON))


def test_hqq_axis_zero_takes_weights_far_apart():
    w = weights(8, 64)
    apart = build("hqq", {"axis": 0})(w, COMMON)
    beside = build("hqq")(w.reshape(64, 8).T.contiguous(), COMMON)
    assert torch.equal(apart.reshape(64, 8).T, beside)


def test_hqq_stores_float16():
    w = weights()
    half, full = (build("hqq", {"stored": stored})(w, COMMON) for stored in ("float16", "float32"))
    assert 0 < (half - full).abs().max() <= HQQ_BINADE * w.abs().max()
    w[0] = 1e5
    assert torch.isfinite(build("hqq", {"stored": "float32"})(w, COMMON)).all()
    with pytest.raises(CheckpointError, match=r"fc1 has a group whose hqq scale or zero point is beyond float16"):
        build("hqq")(w, COMMON, "fc1")


@pytest.mark.parametrize(
    ("spec", "parameters", "bits"),
    [(COMMON, {}, 4.5), (QuantSpec(4), {}, 4 + 32 / 768), (QuantSpec(3, 64), {}, 3.7), (QuantSpec(6, 64), {}, 8.5),
     (COMMON, {"stored": "float32"}, 5.0)],
)  # fmt: skip
def test_hqq_size(spec, parameters, bits):
    assert build("hqq", parameters).bits_per_weight(768, spec) == bits


@pytest.mark.parametrize(
    "parameters",
    [
        {"norm": 0},
        {"norm": 1.1},
        {"beta": -1},
        {"kappa": float("nan")},
        {"iterations": 1.5},
        {"axis": 2},
        {"stored": "x"},
    ],
)
def test_hqq_refuses_impossible_parameters(parameters):
    with pytest.raises(SpecError, match="use "):
        build("hqq", parameters)


def test_hqq_refuses_what_groups_cannot_divide():
    with pytest.raises(SpecError, match=r"fc1 has 300 weights, not a multiple of 64"):
        build("hqq")(weights(3, 100), COMMON, "fc1")
    with pytest.raises(SpecError, match="axis 0"):
        build("hqq", {"axis": 0})(weights(), QuantSpec(4))
