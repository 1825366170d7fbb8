"""Finished rows of a comparison that somebody changed: an answer, or one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dareq_edge.cli import comparison, main
from dareq_edge.comparison import produce as producing
from dareq_edge.comparison.ledger import NAME
from dareq_edge.comparison.produce import ProductionError
from fast import fast
from hostile.mutations import changed_bytes, changed_json
from tiny_models import tiny_opt

CASES = [("json", 20), ("bytes", 10), ("json", 1200), ("bytes", 400)]
RECIPES = "rtn,nf4@64"


def command(place: Path) -> list[str]:
    given = ["compare", place / "m", "--recipes", RECIPES, "--tokens", place / "t.npy", "--out", place / "rows"]
    return [*map(str, given), "--report", str(place / "page.html"), "--json"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A float model ``m``, tokens ``t.npy`` and finished ``rows``; no model is quantized or loaded any more."""
    folder = tmp_path_factory.mktemp("ledger")
    tiny_opt(folder / "m")
    np.save(folder / "t.npy", np.random.default_rng(0).integers(3, 96, 200))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "produce", lambda order, progress: producing._fill(order, progress))
        assert main(command(folder)) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "produce", again)
        patch.setattr(comparison, "load_reference", again)
        yield folder


def again(*given: object, **named: object) -> Any:
    raise ProductionError("this has to be done again")


@pytest.mark.parametrize(("kind", "count"), fast(CASES, *CASES[:2]))
def test_changed_rows(place: Path, capsys: pytest.CaptureFixture[str], kind: str, count: int) -> None:
    path = place / "rows" / NAME
    whole = path.read_bytes()
    change = changed_json if kind == "json" else changed_bytes
    answers = 0
    try:
        for number in range(count):
            path.write_bytes(change(whole, number))
            capsys.readouterr()
            code = main(command(place))
            said = capsys.readouterr()
            if code == 0:
                answers += 1
                assert json.loads(said.out)["rows"][0]["recipe"] == "rtn@channel/4"
            else:
                assert code == 1
                assert "Traceback" not in said.err + said.out, (number, said.err)
                assert "unexpected" not in said.err, (number, said.err)
    finally:
        path.write_bytes(whole)
    assert answers < count  # most changes are noticed; those of numbers cannot be, rows carry no hash
