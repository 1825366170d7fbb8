"""The MSE scale search against a literal loop, and what it promises about errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dareq_edge.errors import SpecError
from dareq_edge.quantizers import build
from dareq_edge.quantizers.mse import LeastSquares
from dareq_edge.spec import QuantSpec
from tolerances import MSE_LOSS

WEIGHTS = st.floats(-4, 4, width=32)
ROWS = st.tuples(st.integers(1, 3), st.integers(1, 200)).flatmap(lambda s: arrays(np.float32, s, elements=WEIGHTS))
BITS = st.integers(2, 8)


def error(w, tensor):
    return np.square(w.astype(np.float64) - tensor.dequantize()).sum(axis=1)


def literal_candidates(row, bits):
    """Every scale that is tried, written out from the definition."""
    absmax, low = float(np.abs(row).max()), 2 ** (bits - 1)
    magnitudes = [absmax / (low - 1), absmax / low]
    magnitudes += [absmax / (low - 0.5) * (0.4 + 0.65 * i / 65) for i in range(66)]
    return [np.float32(sign * m) for sign in (1, -1) for m in magnitudes]


def literal_loss(row, scale, bits):
    low = 2 ** (bits - 1)
    loss = 0.0
    for weight in row.astype(np.float64):
        code = min(max(round(weight / float(scale)), -low), low - 1)
        loss += (weight - float(scale) * code) ** 2
    return loss


@pytest.mark.parametrize("kind", ["gauss", "heavy", "outlier", "positive", "constant", "huge", "small"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_chosen_scale_is_a_best_candidate(kind, bits):
    g = np.random.default_rng(bits)
    row = g.standard_normal(60).astype(np.float32)
    row = {
        "gauss": row,
        "heavy": g.standard_t(3, 60).astype(np.float32),
        "outlier": np.where(np.arange(60) == 7, np.float32(100), row),
        "positive": np.abs(row),
        "constant": np.full(60, 0.3, np.float32),
        "huge": row * np.float32(1e37),
        "small": row * np.float32(1e-30),
    }[kind]
    tensor = build("mse")(torch.from_numpy(row[None]), QuantSpec(bits))
    chosen = tensor.scales[0, 0]
    candidates = literal_candidates(row, bits)
    assert min(abs(float(chosen) / float(c) - 1) for c in candidates) <= MSE_LOSS
    least = min(literal_loss(row, c, bits) for c in candidates)
    scale = float(np.square(row.astype(np.float64)).sum())
    assert literal_loss(row, chosen, bits) <= least * (1 + MSE_LOSS) + scale * MSE_LOSS**2
    assert error(row[None], tensor)[0] <= least * (1 + MSE_LOSS) + scale * MSE_LOSS**2


@pytest.mark.parametrize("bits", [4, 8])
def test_candidates_are_compared_as_they_will_be_stored(bits):
    w = np.random.default_rng(bits).standard_normal((30, 20)).astype(np.float32)
    tensor = build("mse")(torch.from_numpy(w), QuantSpec(bits, None, "bfloat16"))
    for row, chosen in zip(w, tensor.scales[:, 0], strict=True):
        stored = torch.tensor(np.array(literal_candidates(row, bits))).bfloat16().float().numpy()
        assert literal_loss(row, chosen, bits) <= min(literal_loss(row, s, bits) for s in stored) * (1 + MSE_LOSS)


@settings(max_examples=60, deadline=None)
@given(w=ROWS, bits=BITS, group=st.sampled_from([None, 16, 32]), dtype=st.sampled_from(["float32", "bfloat16"]))
def test_never_worse_than_rounding_to_nearest(w, bits, group, dtype):
    spec = QuantSpec(bits, group, dtype)
    ours, plain = build("mse")(torch.from_numpy(w), spec), build("rtn")(torch.from_numpy(w), spec)
    floor = MSE_LOSS**2 * np.square(w.astype(np.float64)).sum(axis=1)
    assert (error(w, ours) <= error(w, plain) * (1 + MSE_LOSS) + floor).all()


@settings(max_examples=40, deadline=None)
@given(w=ROWS, bits=BITS, exponent=st.integers(-60, 60))
def test_a_power_of_two_scales_the_scales_and_keeps_the_codes(w, bits, exponent):
    w[np.abs(w) < 1e-15] = 0
    factor = np.float32(2.0**exponent)
    one, other = (build("mse")(torch.from_numpy(v), QuantSpec(bits)) for v in (w, w * factor))
    zero = ~w.any(axis=1)
    assert np.array_equal(one.codes, other.codes)
    assert np.array_equal(np.where(zero[:, None], 1, one.scales * factor), other.scales)


@settings(max_examples=40, deadline=None)
@given(w=ROWS, bits=BITS)
def test_the_mirrored_row_has_the_same_error(w, bits):
    one, other = (build("mse")(torch.from_numpy(v), QuantSpec(bits)) for v in (w, -w))
    floor = MSE_LOSS**2 * np.square(w.astype(np.float64)).sum(axis=1)
    assert (np.abs(error(w, one) - error(-w, other)) <= MSE_LOSS * error(w, one) + floor).all()


def test_the_signed_maximum_uses_code_zero_for_a_positive_extreme():
    row = torch.tensor([[8.0, -7.0, 3.0, 1.0, -2.0, 5.0, -6.0, 4.0]])
    tensor = build("mse")(row, QuantSpec(4))
    assert tensor.scales[0, 0] == -1
    assert tensor.codes[0, 0] == 0
    assert np.array_equal(tensor.dequantize(), row.numpy())
    assert build("mse")(-row, QuantSpec(4)).scales[0, 0] == 1


def test_batches_change_nothing(monkeypatch):
    w = torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    whole = build("mse")(w, QuantSpec(4, 16))
    monkeypatch.setattr("dareq_edge.quantizers.mse._SEGMENTS", 7)
    parts = build("mse")(w, QuantSpec(4, 16))
    assert np.array_equal(whole.codes, parts.codes)
    assert np.array_equal(whole.scales, parts.scales)


@pytest.mark.parametrize(
    "parameters",
    [
        {"factors": 0},
        {"factors": 1.5},
        {"smallest": 0.0},
        {"largest": 0.3},
        {"largest": float("nan")},
        {"smallest": "a"},
    ],
)
def test_impossible_grids_are_refused(parameters):
    with pytest.raises(SpecError, match="use "):
        LeastSquares(**parameters)
