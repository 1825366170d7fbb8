"""E4M3 codes as whole numbers against the format's definition, bit pattern by bit pattern."""

from __future__ import annotations

import bisect
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dareq_edge.quantizers import _entquant_numba
from dareq_edge.quantizers._float8 import nearest_units
from dareq_edge.quantizers.entquant import EntQuant
from dareq_edge.spec import QuantSpec

SPEC = QuantSpec(8, None, "bfloat16", "entquant")


def literal_value(pattern: int) -> float:
    """Seven bits of exponent and mantissa; 0x7f is NaN and not asked for."""
    exponent, mantissa = pattern >> 3, pattern & 7
    return mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)


VALUES = [literal_value(p) for p in range(0x7F)]
UNITS = [v * 512 for v in VALUES]


def literal_nearest(x: float) -> float:
    """Units, ties to the even bit pattern, clipped."""
    size = min(abs(x), UNITS[-1])
    above = bisect.bisect_left(UNITS, size)
    below = max(above - 1, 0)
    gap = (size - UNITS[below]) - (UNITS[above] - size)
    found = below if gap < 0 or (gap == 0 and below % 2 == 0) else above
    return float(np.copysign(UNITS[found], x)) if found else 0.0


def test_the_grid() -> None:
    assert all(u == round(u) for u in UNITS)
    assert (VALUES[1], VALUES[-1]) == (2.0**-9, 448)
    patterns = torch.arange(0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    assert patterns.tolist() == VALUES
    assert max(u for u in UNITS if u <= 127) == 120


def test_every_code_and_every_middle() -> None:
    points = UNITS + [(a + b) / 2 for a, b in pairwise(UNITS)] + [0.49, 0.51, 1e5, 3e5, 1e30]
    points += [-p for p in points]
    x = torch.tensor(points)
    want = [literal_nearest(float(p)) for p in x]
    got = nearest_units(x)
    assert got.tolist() == want
    assert not torch.signbit(got[got == 0]).any()
    inside = [p for p in points if abs(p) <= UNITS[-1]]
    assert [float(_entquant_numba._on_e4m3(np.float32(p))) for p in inside] == [literal_nearest(p) for p in inside]


@given(st.floats(-229376, 229376, width=32))
def test_any_quotient(x: float) -> None:
    assert nearest_units(torch.tensor([x])).item() == literal_nearest(x)
    assert float(_entquant_numba._on_e4m3(np.float32(x))) == literal_nearest(x)


@pytest.mark.parametrize("scale", ["closed_form", "lbfgs"])
@pytest.mark.parametrize("lam", [1.0, 14.5, 58.0])
def test_int8_holds_the_float8_weights_exactly(scale: str, lam: float) -> None:
    g = np.random.default_rng(0)
    w = (g.standard_t(4, (16, 500)) * 0.02).astype(np.float32)
    w[3, 9], w[4] = 3.0, 0
    value = EntQuant(scale, "float8", lam)(torch.from_numpy(w), SPEC)  # type: ignore[arg-type]
    units = value.codes.astype(int) - 128
    assert {abs(int(u)) for u in units.ravel()} <= {int(u) for u in UNITS if u <= 120}
    float8 = torch.from_numpy((units / 512).astype(np.float32)).to(torch.float8_e4m3fn)
    unit = torch.from_numpy(value.scales)
    assert np.array_equal(value.dequantize(), (float8.float() * (unit * 512)).numpy())
    assert torch.equal(unit, unit.bfloat16().float())
    best = np.array([[literal_nearest(float(x)) for x in row] for row in w / value.scales])
    assert np.array_equal(units, best)


def test_a_row_that_does_not_fit_gets_the_least_scale_that_does() -> None:
    w = (np.random.default_rng(0).standard_normal((4, 600)) * 0.02).astype(np.float32)
    plain = EntQuant(codes="float8", lam=3.9)(torch.from_numpy(w), SPEC)
    w[2, 5] = 5.0
    value = EntQuant(codes="float8", lam=3.9)(torch.from_numpy(w), SPEC)
    assert int(value.codes[2, 5]) - 128 == 120
    assert abs(value.dequantize()[2, 5] / 5.0 - 1) < 1 / 16
    assert value.scales[2, 0] == pytest.approx(5.0 / 122.5, rel=2**-8)
    assert value.scales[1, 0] == pytest.approx(plain.scales[1, 0], rel=0.15)  # the mean weight grew
