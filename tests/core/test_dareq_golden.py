from pathlib import Path

import numpy as np
import pytest
import torch

from dareq_edge import DAREQuantLinear
from tolerances import PAPER_SCALE

SHARED = Path(__file__).parents[2] / "../shared/golden/reference_vectors.npz"
WEIGHTED = {"lambda_weight": 1e4, "lambda_entropy": 1e-4}
CASES = {
    "b4": {},
    "b3": {"bits": 3},
    "b8": {"bits": 8},
    "b4_bins32": {"bins": 32},
    "b4_l2only": {"lambda_entropy": 0.0},
    "b4_w1e3": WEIGHTED,
    "b4_lw1e4_le1e-4": WEIGHTED,
}

# Rows of our own, in 1/64ths: exact in float32. The numbers below came from tests/dareq_literal.py.
ROWS = np.array(
    [
        [7, -3, 2, 0, 5, -7, 1, 4],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 56, 0, 0, 0, 0, 0],
        [64, 13, -20, 9, 31, -2, 45, -57],
    ],
    dtype=np.float32,
) / np.float32(64)


def linear(weight):
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = torch.from_numpy(np.ascontiguousarray(weight))
    return layer


@pytest.fixture(scope="module")
def vectors():
    if not SHARED.exists():
        pytest.skip("the shared golden vectors are not beside this checkout")
    return np.load(SHARED)


def keys(kind):
    matrices = ["gpt2_l1_query", "gpt2_l6_proj", "gpt2_l12_value", "stories_down", "gauss_outlier"]
    cases = {"dareq_reference": list(CASES)[:6], "dareq_paper_scale": ["b4", "b3", "b4_lw1e4_le1e-4"]}[kind]
    return [(m, c) for m in matrices for c in cases]


@pytest.mark.parametrize(("matrix", "case"), keys("dareq_reference"))
def test_density_equals_the_published_code_bit_for_bit(vectors, matrix, case):
    layer = DAREQuantLinear(linear(vectors[f"{matrix}/weight"]), entropy="density", **CASES[case])
    assert np.array_equal(layer.dequantize().numpy(), vectors[f"{matrix}/dareq_reference/{case}"])


@pytest.mark.parametrize(("matrix", "case"), keys("dareq_paper_scale"))
def test_probability_finds_the_papers_scales(vectors, matrix, case):
    layer = DAREQuantLinear(linear(vectors[f"{matrix}/weight"]), entropy="probability", **CASES[case])
    want = vectors[f"{matrix}/dareq_paper_scale/{case}"].ravel()
    np.testing.assert_allclose(layer.scales[:, 0].double().numpy(), want, rtol=PAPER_SCALE)


def test_own_density_rows():
    layer = DAREQuantLinear(linear(ROWS), entropy="density")
    assert (layer.scales[:, 0] * 64).tolist() == [np.float32(x) for x in (1.3157895, 64.0, 28.210526, 9.142858)]
    codes = [[13, 6, 10, 8, 12, 3, 9, 11], [8] * 8, [8, 8, 10, 8, 8, 8, 8, 8], [15, 9, 6, 9, 11, 8, 13, 2]]
    assert layer.qweight.tolist() == [[a | b << 4 for a, b in zip(r[::2], r[1::2], strict=True)] for r in codes]
    want = (torch.tensor(codes) - 8).float() * layer.scales
    assert torch.equal(layer.dequantize(), want)
    assert not want[1].any()


def test_own_probability_rows():
    layer = DAREQuantLinear(linear(ROWS), entropy="probability", bins=4)
    assert layer.scales[:, 0].tolist() == [1 / 64, 1.0, 0.125, np.float32(1 / 7)]
    assert torch.equal(layer.dequantize()[:3], torch.from_numpy(ROWS[:3]))
