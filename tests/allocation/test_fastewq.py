"""FastEWQ: the shipped forests against onnx's own evaluator, their table, and the script that makes them."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from dareq_edge.allocation.facts import Facts, Matrix, facts_from
from dareq_edge.allocation.features import FEATURES, block_features, features_of_sizes
from dareq_edge.allocation.rules import build
from dareq_edge.allocation.rules.ewq import EntropyWeighted
from dareq_edge.allocation.rules.fastewq import forest
from examples import train_fastewq

ROOT = Path(__file__).parents[2]
BITS = {0: None, 8: 8, 4: 4}
sets = pytest.mark.parametrize("which", FEATURES)


def facts(sizes: list[int]) -> Facts:
    return facts_from(tuple(Matrix(f"m{i}", n, 1, i) for i, n in enumerate(sizes)), "opt")


def test_features_by_hand() -> None:
    assert features_of_sizes([10, 30, 20], "published") == [(10, 2, 3), (30, 3, 3), (20, 4, 3)]
    assert features_of_sizes([10, 30, 20], "relative") == [(0, 0, 2), (0.5, 1, 1), (1, 2, 0)]
    assert features_of_sizes([7], "relative") == [(0, 0, 0)]
    assert block_features(facts([10, 30, 20]), "published") == features_of_sizes([10, 30, 20], "published")


@sets
@pytest.mark.parametrize("sizes", [[5], [786432] * 6, [3538944] * 30, [10**7 + i for i in range(80)]])
def test_the_forest_s_own_reading(which: str, sizes: list[int]) -> None:
    """onnxruntime's kernel, and onnx's evaluator in Python, see the same trees."""
    rows = np.asarray(features_of_sizes(sizes, which), np.float32)
    labels = ReferenceEvaluator(onnx.load_from_string(forest(which))).run(["label"], {"features": rows})[0]
    assert build("fastewq", {"features": which})(facts(sizes), None) == tuple(BITS[int(x)] for x in labels)


@sets
def test_the_forests_are_those_of_the_table(which: str) -> None:
    model = onnx.load_from_string(forest(which))
    onnx.checker.check_model(model)
    notes = {p.key: p.value for p in model.metadata_props}
    assert notes["columns"] == ",".join(FEATURES[which])
    assert notes["table_sha256"] == hashlib.sha256(train_fastewq.TABLE.read_bytes()).hexdigest(), "train again"
    assert len(forest(which)) < 500_000


@sets
def test_a_forest_knows_what_it_was_trained_on(which: str) -> None:
    rows = train_fastewq.read_table(train_fastewq.TABLE)
    right = 0
    for name in dict.fromkeys(r.model for r in rows):
        own = [r for r in rows if r.model == name]
        known = facts([r.parameters for r in own])
        want = EntropyWeighted()(known, [r.entropy for r in own])
        right += sum(a == b for a, b in zip(build("fastewq", {"features": which})(known, None), want, strict=True))
    assert right >= 0.9 * len(rows)


def test_classes_can_be_chosen() -> None:
    known = facts([786432] * 6)
    plain = build("fastewq")(known, None)
    chosen = build("fastewq", {"low": 2, "middle": 3, "high": 8})(known, None)
    assert [{None: 8, 8: 3, 4: 2}[b] for b in plain] == list(chosen)


def test_the_table_is_whole() -> None:
    rows = train_fastewq.read_table(train_fastewq.TABLE)
    assert len({r.group for r in rows}) >= 3
    for before, after in pairwise(rows):
        assert after.block in (0, before.block + 1)
        assert (after.model == before.model) == (after.block != 0)
    assert all(0 < r.entropy < 4.6052 and r.parameters > 0 for r in rows)


def test_the_script_adds_a_model_and_makes_forests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install scikit-learn")
    table = tmp_path / "table.csv"
    table.write_bytes(train_fastewq.TABLE.read_bytes())
    before = train_fastewq.read_table(table)
    mini = ROOT / "examples" / "models" / "opt-mini"
    arguments = ["--model", str(mini), "--table", str(table), "--data", str(tmp_path)]
    assert train_fastewq.main(arguments) == 0
    after = train_fastewq.read_table(table)
    assert sorted(map(str, after)) == sorted(map(str, before)), "the same model again is no second model"
    out = capsys.readouterr()
    assert "random 70/30 split" in out.out
    assert "differ" not in out.err
    for which in FEATURES:
        model = (tmp_path / f"fastewq-{which}.onnx").read_bytes()
        assert ReferenceEvaluator(onnx.load_from_string(model)).input_names == ["features"]
