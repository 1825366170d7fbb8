"""The ledger of a comparison: what was finished is found again, what cannot be read is not taken for finished."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dareq_edge.comparison.ledger import NAME, Ledger
from dareq_edge.comparison.matrices import MatrixError, WeightErrors
from dareq_edge.comparison.records import Production, Run, Score
from dareq_edge.errors import ArtifactError

MADE = Production(1.5, 3, 2, 1000, 4.5, 900, 4.1, WeightErrors((MatrixError("m", 0, 9, 1.0, 0.1, 3.0, 4.0),), 2))
SCORE = Score(100, 3.5, 0.1, 0.01, 0.002, 0.03, 0.9)


def test_a_run_is_found_again_by_its_texts(tmp_path: Path) -> None:
    run = Run(3, MADE, {"a": SCORE, "b": SCORE})
    Ledger(tmp_path).finish("k", "rtn", run)
    again = Ledger(tmp_path)
    assert again.run("k", ["a", "b"]) == run
    assert again.run("k", ["a"]) is None
    assert again.run("other", ["a", "b"]) is None
    assert Ledger(tmp_path, fresh=True).run("k", ["a", "b"]) is None


def test_references_and_continuations_are_found_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.finish_reference("r", {"a": SCORE})
    ledger.finish_continuation("c", (5, 6, 7))
    again = Ledger(tmp_path)
    assert again.reference("r", ["a"]) == {"a": SCORE}
    assert again.reference("r", ["b"]) is None
    assert again.continuation("c") == (5, 6, 7)
    assert again.continuation("r") is None


def test_a_note_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    place = ledger.checkpoint("rtn@64/4", 2, "k")
    assert ledger.produced(place) is None
    place.mkdir()
    ledger.note(place, MADE)
    assert ledger.produced(place) == MADE
    path = place.with_name(f"{place.name}.json")
    whole = json.loads(path.read_text())
    for broken in ("{", "[]", json.dumps(whole | {"seconds": "x"}), json.dumps(whole | {"more": 1})):
        path.write_text(broken)
        assert ledger.produced(place) is None


@pytest.mark.parametrize(
    "change",
    [{"nll": "x"}, {"nll": float("nan")}, {"tokens": -1}, {"tokens": 1.5}, {"kl": None}],
)
@pytest.mark.parametrize("part", ["runs", "references"])
def test_values_that_no_row_has_are_refused(tmp_path: Path, part: str, change: dict[str, object]) -> None:
    ledger = Ledger(tmp_path)
    ledger.finish("k", "rtn", Run(None, MADE, {"a": SCORE}))
    ledger.finish_reference("k", {"a": SCORE})
    data = json.loads((tmp_path / NAME).read_text())
    (data["runs"]["k"]["scores"] if part == "runs" else data["references"]["k"])["a"].update(change)
    (tmp_path / NAME).write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="choose another --out or --overwrite"):
        Ledger(tmp_path)
