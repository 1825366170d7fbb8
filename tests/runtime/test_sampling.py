"""Sampling against the literal algorithm it replaces: sort everything, cut, sum, look up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dareq_runtime.sampling import Sampling


def literal(sampling: Sampling, logits: NDArray[np.float32], stream: np.random.Generator) -> int:
    x = logits.astype(np.float64) / sampling.temperature
    order = np.argsort(-x, kind="stable")[: sampling.top_k or None]
    p = np.exp(x[order] - x[order[0]])
    p /= p.sum()
    keep = int(np.searchsorted(np.cumsum(p), sampling.top_p)) + 1
    p = p[:keep] / p[:keep].sum()
    return int(order[min(np.searchsorted(np.cumsum(p), stream.random(), side="right"), len(p) - 1)])


# No round shares: where equal tokens add up to exactly top_p, the last bit decides, and the two sum in other orders.
@given(
    size=st.integers(1, 3000),
    spread=st.floats(0.01, 30),
    decimals=st.sampled_from([0, 1, 7]),
    temperature=st.floats(0.05, 5),
    top_k=st.sampled_from([0, 1, 2, 40, 3000, 9000]),
    top_p=st.sampled_from([1e-6, 0.3141592653, 0.9012345678, 0.9991234567, 1.0]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_same_tokens_from_the_same_random_numbers(
    size: int, spread: float, decimals: int, temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, size).round(decimals).astype(np.float32)
    sampling = Sampling(temperature, top_k, top_p)
    ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
    for _ in range(20):
        assert sampling.choose(logits, ours) == literal(sampling, logits, theirs)


@pytest.mark.parametrize("top_p", [0.5, 1.0])
def test_tokens_of_no_probability_are_never_chosen(top_p: float) -> None:
    logits = np.full(200, -np.inf, np.float32)
    logits[[7, 90]] = [1.0, 0.5]
    stream = np.random.default_rng(0)
    drawn = {Sampling(1.0, top_p=top_p).choose(logits, stream) for _ in range(300)}
    assert drawn == ({7} if top_p == 0.5 else {7, 90})


class Ends:
    """Stands in for a random stream."""

    def __init__(self, u: float) -> None:
        self.random = lambda: u


@pytest.mark.parametrize("sampling", [Sampling(1.0), Sampling(1.0, top_k=3), Sampling(1.0, top_p=0.9)])
def test_the_ends_of_the_unit_interval(sampling: Sampling) -> None:
    logits = np.array([0.0, 3.0, 1.0, 2.0, -50.0, -60.0], np.float32)
    for u, token in ((0.0, 1), (1 - 2**-53, literal(sampling, logits, Ends(1 - 2**-53)))):  # type: ignore[arg-type]
        found = sampling.choose(logits, Ends(u))  # type: ignore[arg-type]
        assert found == token or (u > 0 and logits[found] <= logits[token])


def test_of_equal_logits_the_first_are_kept() -> None:
    logits = np.array([1, 2, 2, 2, 0], np.float32)
    stream = np.random.default_rng(0)
    assert {Sampling(1.0, top_k=2).choose(logits, stream) for _ in range(100)} == {1, 2}
