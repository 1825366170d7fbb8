"""Rounding by a trellis: against trying everything, and against one grid at the same rate."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from dareq_edge.container import trellis
from dareq_edge.container.workspace import Workspace
from dareq_edge.rounding.feedback import Factor, factorize
from dareq_edge.rounding.rate import code_lengths, entropy, rate_feedback, step_sizes
from dareq_edge.rounding.trellis import STEP, start_states, trellis_feedback
from tolerances import TRELLIS_DECIBELS


def following(state: tuple[int, ...], low: int) -> tuple[int, ...]:
    """w_0 … w_4 after a row whose index has this lowest bit, as ``container.trellis`` has the rule."""
    a, *w = *state, 0
    return w[0], w[1] ^ a, w[2] ^ low, w[3], w[4] ^ a


def test_a_column_gets_the_best_codes_there_are() -> None:
    generator = torch.Generator().manual_seed(1)
    weight, worth = torch.randn(5, 1, generator=generator) * 1.5, torch.rand(5, generator=generator) + 0.5
    lengths = torch.rand(256, generator=generator) * 3
    factor = Factor(torch.arange(1), torch.ones(1, 1))
    states = torch.tensor([0b10010], dtype=torch.int8)
    _, k = trellis_feedback(weight, torch.ones(5, 1), 2 * worth, factor, lengths, 1.0, states)

    def cost(path: tuple[int, ...]) -> float:
        state, total = (0, 1, 0, 0, 1), 0.0
        for i, index in enumerate(path):
            code = 2 * index - np.sign(index) * state[0]
            total += float(worth[i]) * (float(weight[i, 0]) - code) ** 2 + float(lengths[index + 128])
            state = following(state, index & 1)
        return total

    best = min(itertools.product(range(-2, 3), repeat=5), key=cost)
    assert cost(tuple(k[:, 0].tolist())) == pytest.approx(cost(best), rel=1e-5)


def problem() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1024, 128, generator=generator) * torch.linspace(0.3, 2, 128)
    x[:, 1:] += 0.7 * x[:, :-1]
    return torch.randn(512, 128, generator=generator) * 0.1, x.T @ x / len(x)


def test_errs_less_than_one_grid_at_the_same_bits() -> None:
    weight, second = problem()
    factor, importance = factorize(second, damping=0.01), torch.ones(512)

    def decibels(q: torch.Tensor, s: torch.Tensor, bits: float) -> float:
        d = (weight - q * s).double()
        return 10 * math.log10(float(((d @ second.double()) * d).sum())) + 20 * math.log10(2) * bits

    for slope in (2e-4, 8e-4):
        s = step_sizes(importance, factor, slope)[:, None]
        one, two, turns = torch.zeros(256), torch.zeros(256), torch.empty(0)
        for _ in range(3):
            q = rate_feedback(weight, s, importance, factor, one, slope)
            one = code_lengths(q)
            states = start_states(None, factor.order)
            turns, k = trellis_feedback(weight, STEP * s, importance, factor, two, slope, states)
            two = code_lengths(k)
        assert decibels(turns, STEP * s, entropy(k)) < decibels(q, s, entropy(q)) - TRELLIS_DECIBELS


def test_rows_that_follow_go_on_where_those_above_ended() -> None:
    weight, second = problem()
    factor, importance = factorize(second), torch.ones(512)
    s = STEP * step_sizes(importance, factor, 4e-4)[:, None]
    parts: list[torch.Tensor] = []
    for start in (0, 100, 300):
        rows = slice(start, {0: 100, 100: 300, 300: 512}[start])
        above = torch.cat(parts) if parts else None
        states = start_states(above, factor.order)
        codes, _ = trellis_feedback(weight[rows], s[rows], importance[rows], factor, torch.zeros(256), 4e-4, states)
        parts.append(codes)
    stored = (torch.cat(parts).to(torch.int16) + 128).to(torch.uint8).numpy()
    payload = trellis.encode(stored.reshape(-1), 128)
    assert payload is not None
    out = np.empty(stored.size, np.uint8)
    trellis.decode(memoryview(payload), out, Workspace())
    assert np.array_equal(out, stored.reshape(-1))
