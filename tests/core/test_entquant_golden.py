"""EntQuant against what the published code gave (L-BFGS, int8 codes) for trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantizers._rate import entropy_bits
from dareq_edge.quantizers.entquant import EntQuant
from dareq_edge.spec import QuantSpec
from tolerances import ENTQUANT_ENTROPY, ENTQUANT_L1, ENTQUANT_PUBLISHED_ENTROPY, ENTQUANT_SCALE

SHARED = Path(__file__).parents[2] / "../shared/golden/reference_vectors.npz"
SPEC = QuantSpec(8, None, "float32", "entquant")
CASES = [
    pytest.param(m, lam, id=f"{m}-{lam}")
    for m in ("gpt2_l1_query", "gpt2_l6_proj", "gpt2_l12_value", "stories_down")
    for lam in (3.9, 14.5, 58.0)
]


@pytest.fixture(scope="module")
def vectors() -> Any:
    if not SHARED.exists():
        pytest.skip("the shared golden vectors are not beside this checkout; put them at ../shared/golden")
    return np.load(SHARED)


def relative_l1(w: np.ndarray, value: QuantizedTensor) -> float:
    return float(np.abs(value.dequantize() - w).sum(dtype=np.float64) / np.abs(w).sum(dtype=np.float64))


@pytest.mark.parametrize(("matrix", "lam"), CASES)
def test_lbfgs_finds_the_published_scales(vectors: Any, matrix: str, lam: float) -> None:
    value = EntQuant("lbfgs", lam=lam)(torch.from_numpy(vectors[f"{matrix}/weight"]), SPEC)
    want = vectors[f"{matrix}/entquant_int8_scale/lam{lam}"]
    np.testing.assert_allclose(value.scales[:, 0], want, rtol=ENTQUANT_SCALE)
    entropy = float(vectors[f"{matrix}/entquant_int8_entropy_bits/lam{lam}"])
    assert abs(entropy_bits(value.codes) - entropy) < ENTQUANT_PUBLISHED_ENTROPY


@pytest.mark.parametrize(("matrix", "lam"), CASES)
def test_the_closed_form_is_on_the_same_curve(vectors: Any, matrix: str, lam: float) -> None:
    w = vectors[f"{matrix}/weight"]
    entropy, error = (float(vectors[f"{matrix}/entquant_int8_{x}/lam{lam}"]) for x in ("entropy_bits", "rel_l1"))
    value = EntQuant(lam=lam)(torch.from_numpy(w), SPEC)
    assert abs(entropy_bits(value.codes) - entropy) < ENTQUANT_ENTROPY
    same_rate = EntQuant(target_bits=entropy)(torch.from_numpy(w), SPEC)
    assert abs(relative_l1(w, same_rate) / error - 1) < ENTQUANT_L1


def test_where_the_solver_converges_the_closed_form_is_where_it_ends(vectors: Any) -> None:
    w = vectors["gpt2_l6_proj/weight"]
    for lam in (3.9, 14.5, 58.0):
        value = EntQuant(lam=lam)(torch.from_numpy(w), SPEC)
        assert (
            abs(relative_l1(w, value) / float(vectors[f"gpt2_l6_proj/entquant_int8_rel_l1/lam{lam}"]) - 1)
            < ENTQUANT_L1
        )
