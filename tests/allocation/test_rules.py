"""What every rule promises, whichever files lie in dareq_edge/allocation/rules, and what each decides."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dareq_edge.allocation.facts import Facts, Matrix, facts_from
from dareq_edge.allocation.rules import build, names, parse
from dareq_edge.allocation.rules.ewq import EntropyWeighted
from dareq_edge.errors import SpecError

every = pytest.mark.parametrize("name", names())


def facts(blocks: int, size: int = 64) -> Facts:
    inside = tuple(Matrix(f"layers.{i}.{n}", size, size, i) for i in range(blocks) for n in ("a", "b"))
    return facts_from((Matrix("embed", 100, size, None), *inside), "opt")


def scores(blocks: int, seed: int = 0) -> list[float]:
    return list(4.6 + 1e-6 * np.random.default_rng(seed).standard_normal(blocks))


@every
@pytest.mark.parametrize("blocks", [1, 2, 3, 24, 100])
def test_one_decision_per_block_and_the_same_twice(name: str, blocks: int) -> None:
    rule = build(name)
    assert rule.needs in ("config", "weights")
    given_scores = scores(blocks) if rule.needs == "weights" else None
    found = rule(facts(blocks), given_scores)
    assert isinstance(found, tuple)
    assert len(found) == blocks
    assert all(b is None or (type(b) is int and 2 <= b <= 8) for b in found)
    assert found == build(name)(facts(blocks), given_scores)


@every
def test_a_rule_is_a_frozen_dataclass_whose_settings_are_checked(name: str) -> None:
    rule = build(name)
    assert dataclasses.is_dataclass(rule)
    assert type(rule).__dataclass_params__.frozen
    assert build(name, dataclasses.asdict(rule)) == rule
    for field in dataclasses.fields(rule):
        with pytest.raises(SpecError, match=rf"{field.name} is .*; use"):
            build(name, {field.name: "nonsense"})
    with pytest.raises(SpecError, match="has no setting 'x'"):
        build(name, {"x": 1})


@every
@pytest.mark.parametrize("wrong", [None, [], [4.6], [4.6, float("nan"), 4.6]])
def test_a_rule_on_weights_refuses_scores_that_do_not_fit(name: str, wrong: list[float] | None) -> None:
    rule = build(name)
    if rule.needs == "config":
        assert rule(facts(3), None) == rule(facts(3), wrong), "scores must not matter"
    else:
        with pytest.raises(SpecError, match="needs the entropy of each of the 3 blocks"):
            rule(facts(3), wrong)


def test_parse() -> None:
    assert parse("ewq+deviations=0.65+decision=percentile") == EntropyWeighted(0.65, "percentile")
    assert parse("uniform+bits=null")(facts(2), None) == (None, None)
    for wrong, words in {
        "": "is not a rule; write",
        "EWQ": "is not a rule; write",
        "ewq+": "is not a rule; write",
        "ewqq": "unknown rule 'ewqq'; did you mean 'ewq'",
        "ewq+low=4+low=2": "sets low twice",
        "ewq+low=9": "low is 9; use a whole number from 2 to 8$",
        "ewq+percentile=101": "percentile is 101; use a number from 0 to 100",
        "uniform+bits=1": "bits is 1; use a whole number from 2 to 8, or null for float",
    }.items():
        with pytest.raises(SpecError, match=words):
            parse(wrong)


def test_uniform() -> None:
    assert build("uniform", {"bits": 3})(facts(4), None) == (3, 3, 3, 3)


@pytest.mark.parametrize(
    ("blocks", "count", "want"),
    [
        (5, 1, (8, 4, 4, 4, 8)),
        (5, 2, (8, 8, 4, 8, 8)),
        (3, 2, (8, 8, 8)),
        (4, 0, (4, 4, 4, 4)),
        (1, 1, (8,)),
    ],
)
def test_ends_high(blocks: int, count: int, want: tuple[int, ...]) -> None:
    assert build("ends-high", {"count": count})(facts(blocks), None) == want


@pytest.mark.parametrize(
    ("blocks", "high"),
    [
        (3, {2}),
        (8, {0, 3, 6, 7}),
        (24, {0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23}),
        (30, {0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29}),
    ],
)
def test_k_quant(blocks: int, high: set[int]) -> None:
    found = build("k-quant", {"high": 6, "low": 4})(facts(blocks), None)
    assert {i for i, bits in enumerate(found) if bits == 6} == high


def test_ewq_the_paper_s_rule_by_hand() -> None:
    """Mean 4, standard deviation 2: T = 2."""
    values = [1.0, 3.0, 4.0, 5.0, 7.0]
    rule = EntropyWeighted()
    assert rule.thresholds(values) == {"mean - 1 sigma": 2.0, "mean": 4.0}
    assert rule(facts(5), values) == (4, 8, 8, None, None)
    assert rule(facts(5), [2.0, 4.0, 4.0, 4.0, 6.0])[0] == 4
    assert EntropyWeighted(low=2)(facts(5), values)[0] == 2
    assert EntropyWeighted(0.5)(facts(5), values) == (4, 4, 8, None, None), "T itself belongs to the lowest class"


def test_ewq_classes_can_be_chosen() -> None:
    rule = parse("ewq+low=3+middle=4+high=8")
    assert rule(facts(5), [1.0, 3.0, 4.0, 5.0, 7.0]) == (3, 4, 4, 8, 8)


@pytest.mark.parametrize(
    ("bits", "want"),
    [(4, (4, 4, 4, 4)), (5, (4, 8, 4, 4)), (6, (4, 8, 4, 8)), (5.9, (4, 8, 4, 4)), (8, (8, 8, 8, 8))],
)
def test_ewq_ranked_by_hand(bits: float, want: tuple[int, ...]) -> None:
    assert build("ewq-ranked", {"bits": bits})(facts(4), [1.0, 4.0, 2.0, 3.0]) == want


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.floats(3, 8), st.integers(0, 99))
@settings(deadline=None)
def test_ewq_ranked_never_passes_its_bits_and_wastes_less_than_a_block(
    sizes: list[int], bits: float, seed: int
) -> None:
    own = facts_from(tuple(Matrix(f"m{i}", n, 1, i) for i, n in enumerate(sizes)), "opt")
    values = scores(len(sizes), seed)
    found = build("ewq-ranked", {"bits": bits, "low": 3})(own, values)
    spent = sum(b * n for b, n in zip(found, sizes, strict=True))
    assert spent <= bits * sum(sizes) * (1 + 1e-12)
    left = [n for b, n in zip(found, sizes, strict=True) if b == 3]
    assert not left or spent + 5 * max(left) > bits * sum(sizes) - 1e-6


def test_ewq_ranked_refuses_bits_it_cannot_meet() -> None:
    for bits in (3.9, 8.1):
        with pytest.raises(SpecError, match=r"bits is .*; use a number from low, 4, to high, 8"):
            build("ewq-ranked", {"bits": bits})


def test_ewq_the_percentile_rule_by_hand() -> None:
    """Quarters at 1, 3, 4, 5, 7; T = 4 - 0.65 * 2 = 2.7."""
    rule = EntropyWeighted(0.65, "percentile")
    assert list(rule.thresholds([1.0, 3.0, 4.0, 5.0, 7.0]).values()) == pytest.approx([2.7, 5.0])
    assert rule(facts(5), [1.0, 3.0, 4.0, 5.0, 7.0]) == (4, 8, 8, None, None)


@given(st.lists(st.floats(4.5, 4.7), min_size=1, max_size=50), st.floats(0, 3), st.floats(0, 100))
@settings(deadline=None)
def test_ewq_follows_the_order_of_entropies(values: list[float], deviations: float, percentile: float) -> None:
    for decision in ("paper", "percentile"):
        rule = EntropyWeighted(deviations, decision, percentile)
        found = rule(facts(len(values)), values)
        ranks = [16 if b is None else b for b in found]
        for (a, x), (b, y) in pairwise(sorted(zip(values, ranks, strict=True))):
            assert a == b or x <= y, "more entropy never gets fewer bits"
    high = rule.thresholds(values)[f"{percentile:g} % percentile"]
    assert high == pytest.approx(float(np.percentile(values, percentile)), rel=1e-12)


@pytest.mark.parametrize("value", [4.6049999, 0.1, 4.605170185988091])
@pytest.mark.parametrize("count", [1, 3, 7, 30])
def test_ewq_equal_entropies_are_equal_decisions(value: float, count: int) -> None:
    assert EntropyWeighted()(facts(count), [value] * count) == (4,) * count
