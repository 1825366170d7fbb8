"""The knapsack against brute force, its bound, and what the user is promised: never above, rarely far below."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tolerances
from dareq_edge.allocation.knapsack import Choice, lower_bound, solve
from dareq_edge.errors import AllocationError

Rows = list[list[Choice]]


def rows_of(pairs: list[list[tuple[int, float]]]) -> Rows:
    return [[Choice(None, nbytes, cost) for nbytes, cost in row] for row in pairs]


def totals(rows: Rows, plan: list[int]) -> tuple[float, int]:
    taken = [row[i] for row, i in zip(rows, plan, strict=True)]
    return float(sum(c.cost for c in taken)), sum(c.nbytes for c in taken)


def brute_force(rows: Rows, budget: int) -> tuple[float, int]:
    """Least cost, then fewest bytes, of all combinations that fit."""
    every = (totals(rows, list(plan)) for plan in itertools.product(*(range(len(row)) for row in rows)))
    return min(found for found in every if found[1] <= budget)


# Whole costs, so that sums are exact and ties happen.
WHOLE = st.lists(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30).map(float)), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
).map(rows_of)


@settings(max_examples=300, deadline=None)
@given(WHOLE, st.integers(0, 200))
def test_brute_force_finds_nothing_better(rows: Rows, budget: int) -> None:
    smallest = sum(min(c.nbytes for c in row) for row in rows)
    if smallest > budget:
        with pytest.raises(AllocationError, match=rf"smallest possible is {smallest} bytes"):
            solve(rows, budget)
    else:
        assert totals(rows, solve(rows, budget)) == brute_force(rows, budget)


def model(rng: np.random.Generator, *, matrices: int, width: int, floats: bool = True) -> Rows:
    """Matrices of a decoder: 4 and 8 bits in blocks, perhaps float; noisy errors, spread sensitivities."""
    rows = []
    for _ in range(matrices):
        n, k = (64 * int(rng.integers(1, width)) for _ in range(2))
        sensitivity = float(np.exp(1.5 * rng.normal())) * n * k
        row = [Choice(None, 4 * n * k, 0.0)] if floats else []
        for bits, group in itertools.product((4, 8), (16, 32, 64, 128, 256)):
            error = 4.0**-bits * (group / 256) ** 0.25 * float(np.exp(0.1 * rng.normal()))
            row.append(Choice(None, n * -(-k // group) * (group * bits // 8 + 4), sensitivity * error))
        rows.append(row)
    return rows


def budget_between(rows: Rows, share: float) -> int:
    least, most = (sum(pick(c.nbytes for c in row) for row in rows) for pick in (min, max))
    return int(least + share * (most - least))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 100), st.floats(0, 1), st.booleans())
def test_budgets_are_met_and_98_percent_used_where_a_finer_choice_exists(
    seed: int, matrices: int, share: float, floats: bool
) -> None:
    rows = model(np.random.default_rng(seed), matrices=matrices, width=24, floats=floats)
    budget = budget_between(rows, share)
    plan = solve(rows, budget)
    used = totals(rows, plan)[1]
    assert used <= budget
    climbs = [c.nbytes - r[i].nbytes for r, i in zip(rows, plan, strict=True) for c in r if c.cost < r[i].cost]
    assert not [more for more in climbs if more <= budget - used]
    assert used >= 0.98 * budget or not [more for more in climbs if more <= 0.02 * budget]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 100), st.floats(0, 1), st.booleans())
def test_less_than_one_step_of_one_matrix_is_lost_against_the_relaxation(
    seed: int, matrices: int, share: float, floats: bool
) -> None:
    rows = model(np.random.default_rng(seed), matrices=matrices, width=24, floats=floats)
    budget = budget_between(rows, share)
    cost, bound = totals(rows, solve(rows, budget))[0], lower_bound(rows, budget)
    step = max(max(c.cost for c in row) - min(c.cost for c in row) for row in rows)
    assert bound * (1 - tolerances.FLOAT64_SUM) <= cost <= (bound + step) * (1 + tolerances.FLOAT64_SUM)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_more_bytes_never_cost_more(seed: int, matrices: int, shares: list[float]) -> None:
    rows = model(np.random.default_rng(seed), matrices=matrices, width=12)
    budgets = sorted(budget_between(rows, share) for share in shares)
    costs = [totals(rows, solve(rows, budget))[0] for budget in budgets]
    for less, more in itertools.pairwise(costs):
        assert more <= less * (1 + tolerances.FLOAT64_SUM)


def test_a_choice_off_the_hull_is_taken_where_it_is_what_fits() -> None:
    rows = rows_of([[(0, 10.0), (6, 5.0), (10, 0.0)]])
    assert solve(rows, 9) == [1]
    assert solve(rows, 10) == [2]


def test_a_step_down_pays_for_a_better_step_up() -> None:
    # By slope the first matrix climbs first and leaves 4 bytes, in which nothing fits.
    rows = rows_of([[(0, 10.0), (6, 0.0)], [(0, 12.0), (10, 0.0)]])
    assert solve(rows, 10) == [0, 1]


def test_equal_costs_take_fewer_bytes_and_the_first_of_equal_choices() -> None:
    rows = rows_of([[(9, 1.0), (7, 1.0), (7, 1.0)], [(3, 2.0), (3, 1.0), (3, 1.0)]])
    assert solve(rows, 100) == [1, 1]


def test_the_same_call_gives_the_same_plan() -> None:
    rows = model(np.random.default_rng(3), matrices=200, width=24)
    budget = budget_between(rows, 0.1)
    assert solve(rows, budget) == solve(rows, budget)


def test_bytes_of_everything_else_count() -> None:
    rows = rows_of([[(4_000_000, 1.0), (9_000_000, 0.0)]])
    assert solve(rows, 10_000_000) == [1]
    assert solve(rows, 10_000_000, fixed=1_000_001) == [0]
    with pytest.raises(AllocationError) as error:
        solve(rows, 5_000_000, fixed=1_204_032)
    assert str(error.value) == (
        "no plan fits 5.00 MB (5,000,000 bytes); the smallest possible is 5.20 MB (5,204,032 bytes), allow at least "
        "that, or fewer bits"
    )


def test_a_model_without_matrices_has_one_plan() -> None:
    assert solve([], 0) == []
    with pytest.raises(AllocationError, match="smallest possible is 1 bytes"):
        solve([], 0, fixed=1)


@pytest.mark.parametrize(("nbytes", "cost"), [(-1, 0.0), (1, float("nan")), (1, float("inf"))])
def test_choices_that_cannot_be_counted_with_are_refused(nbytes: int, cost: Any) -> None:
    with pytest.raises(AllocationError, match="must be finite"):
        Choice(None, nbytes, cost)


def test_a_matrix_without_choices_is_refused_by_number() -> None:
    with pytest.raises(AllocationError, match="matrix 1 has no choice"):
        solve([[Choice(None, 1, 1.0)], []], 10)
