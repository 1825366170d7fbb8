import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dareq_edge.quantizers import _numba, _search, _search_numba, _search_torch
from dareq_edge.quantizers.dareq import DareQ
from dareq_edge.spec import QuantSpec
from dareq_literal import literal_losses, literal_scale
from tolerances import DAREQ_LOSS, HALF_STEP

ENTROPIES = ["density", "probability"]
WEIGHTS = st.floats(-4, 4, width=32)
ROWS = st.tuples(st.integers(1, 3), st.integers(1, 40)).flatmap(lambda s: arrays(np.float32, s, elements=WEIGHTS))


def search_of(entropy, q_max=7, bins=128, lambda_weight=1.0, lambda_entropy=0.1, candidates=20):
    return _search.Search(entropy == "density", q_max, bins, lambda_weight, lambda_entropy, candidates)


def matrix(kind, rows=8, length=200, seed=0):
    g = np.random.default_rng(seed)
    w = {
        "gauss": g.standard_normal((rows, length)) * 0.05,
        "laplace": g.laplace(size=(rows, length)) * 0.02,
        "heavy": g.standard_t(2, size=(rows, length)) * 0.01,
        "large": g.standard_normal((rows, length)) * 30,
        "tiny": g.standard_normal((rows, length)) * 1e-6,
        "integers": g.integers(-7, 8, (rows, length)) / 64,
        "short": g.standard_normal((rows, 16)) * 0.05,
        "positive": np.abs(g.standard_normal((rows, length))) + 3,
    }[kind]
    return w.astype(np.float32)


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("kind", ["gauss", "laplace", "heavy", "large", "tiny", "integers", "short", "positive"])
@pytest.mark.parametrize(
    "options",
    [{}, {"q_max": 3}, {"q_max": 1}, {"q_max": 127}, {"bins": 32}, {"bins": 300}, {"lambda_entropy": 0.0},
     {"lambda_weight": 0.0}, {"lambda_weight": 1e4, "lambda_entropy": 1e-4}, {"candidates": 1}, {"candidates": 3}],
    ids=str,
)  # fmt: skip
def test_kernel_makes_the_literal_choices(entropy, kind, options):
    w = matrix(kind)
    want = [literal_scale(row, entropy=entropy, **options) for row in w]
    got = _search_numba.choose(torch.from_numpy(w), search_of(entropy, **options)).numpy()
    assert got.tolist() == np.array(want).tolist()


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize("kind", ["gauss", "laplace", "heavy", "large", "tiny", "positive"])
@pytest.mark.parametrize("options", [{}, {"q_max": 127}, {"lambda_weight": 1e4, "lambda_entropy": 1e-4}], ids=str)
def test_torch_makes_the_kernels_choices(entropy, kind, options):
    w, search = torch.from_numpy(matrix(kind)), search_of(entropy, **options)
    assert torch.equal(_search_torch.choose(w, search), _search_numba.choose(w, search))


@pytest.mark.parametrize("entropy", ENTROPIES)
@settings(max_examples=30, deadline=None)
@given(w=ROWS, bins=st.integers(1, 150), bits=st.integers(2, 8))
def test_no_candidate_is_better_than_the_chosen(entropy, w, bins, bits):
    q_max = 2 ** (bits - 1) - 1
    kernel = _search_numba.choose(torch.from_numpy(w), search_of(entropy, q_max=q_max, bins=bins))
    vectorised = _search_torch.choose(torch.from_numpy(w), search_of(entropy, q_max=q_max, bins=bins))
    for row, *chosen in zip(w, kernel.numpy(), vectorised.numpy(), strict=True):
        if np.abs(row).max() / q_max < np.finfo(np.float32).tiny:
            assert chosen == [0, 0]
            continue
        try:
            scales, losses = literal_losses(row, entropy=entropy, q_max=q_max, bins=bins)
        except (
            ValueError
        ):  # numpy cannot cut so narrow a range into bins; our rule for that is in quantizers/dareq.py
            continue
        size = np.abs(losses).max() + 1
        for scale in chosen:
            assert losses[scales == scale].min() <= losses.min() + DAREQ_LOSS * size


@pytest.mark.parametrize("entropy", ENTROPIES)
@settings(max_examples=30, deadline=None)
@given(w=ROWS, bits=st.integers(2, 8), group=st.sampled_from([None, 16, 32]))
def test_codes_are_in_range_and_nearest(entropy, w, bits, group):
    spec = QuantSpec(bits, group)
    tensor = DareQ(entropy=entropy)(torch.from_numpy(w), spec)
    assert tensor.codes.max() < 2**bits
    assert np.isfinite(tensor.scales).all()
    assert (tensor.scales > 0).all()
    scale = np.repeat(tensor.scales, group or w.shape[1], axis=1)[:, : w.shape[1]].astype(np.float64)
    error = np.abs(w - tensor.dequantize().astype(np.float64))
    assert (error <= scale * (0.5 + HALF_STEP) + 1e-37).all()  # no candidate clips: absmax / q_max is the smallest


def test_a_residual_too_narrow_for_its_bins_counts_as_a_point():
    w = np.nextafter(np.float32(3), np.float32([[4, 2, 4, 3]]), dtype=np.float32)
    with pytest.raises(ValueError, match="Too many bins"):
        literal_losses(w[0], entropy="density")
    kernel, vectorised = (m.choose(torch.from_numpy(w), search_of("density")) for m in (_search_numba, _search_torch))
    grid = _search.scale_grid(np.abs(w).max(axis=1), search_of("density"))
    assert kernel[0] == grid[0][_search.best(w[0], grid[0], search_of("density"))]
    assert torch.equal(kernel, vectorised)


def test_bins_without_corrections_are_numpys_or_refused():
    index = np.empty(768, dtype=np.uint16)
    for seed, bins in ((0, 128), (1, 7), (2, 1), (3, 1000)):
        r = np.random.default_rng(seed).standard_normal(768)
        step = (r.max() - r.min()) / bins
        assert _search_numba._clear_bins(r, r.min(), r.max(), step, bins, index)
        assert np.bincount(index, minlength=bins).tolist() == np.histogram(r, bins=bins)[0].tolist()
        edge = r.min() + step * (bins // 2)
        for r[5] in (np.nextafter(edge, -9), edge, np.nextafter(edge, 9)):  # the outermost edges cannot mislead
            assert _search_numba._clear_bins(r, r.min(), r.max(), step, bins, index) == (bins == 1)


def test_the_kernel_needs_no_writable_cache(monkeypatch):
    def refuse(*args, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(_numba.numba, "njit", refuse)
    assert _numba.compiled(parallel=True)(len)([1, 2]) == 2


def test_the_kernel_leaves_torch_its_threads() -> None:
    """numba and torch share an OpenMP runtime; a parallel kernel used to raise torch's thread count for good."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        DareQ()(torch.randn(8, 32), QuantSpec())
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
