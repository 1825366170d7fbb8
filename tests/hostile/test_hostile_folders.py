"""A folder with one file broken: refused in one sentence, or the right answer if nothing that counts changed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dareq_edge.manifest import NAME
from hostile.forks import ANSWERED, DEFECT, Outcome
from hostile.mutations import changed_bytes, changed_json
from hostile.subjects import Change, Subject, answer, inspect_answer, runtime_folder, seal_again, token_answer

COUNTS = [pytest.param(25, id="fast"), pytest.param(1500, id="all", marks=pytest.mark.slow)]
FILES = ("model.onnx", "model.onnx.data", "config.json", "generation_config.json", "tokenizer.json")
JSON = ("config.json", "generation_config.json", "tokenizer.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runtime_folder(tmp_path_factory.mktemp("hostile") / "folder")


def defects(found: list[Outcome]) -> list[Outcome]:
    return [o for o in found if o.kind == DEFECT]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", FILES)
def test_no_changed_file_gives_an_answer(folder: Path, name: str, count: int) -> None:
    found = Subject(folder, name, changed_bytes, answer).run(range(count))
    assert defects(found) == []
    assert [o for o in found if o.kind == ANSWERED] == []


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("change", [changed_bytes, changed_json])
def test_a_changed_manifest_gives_the_right_answer_or_none(folder: Path, change: Change, count: int) -> None:
    subject = Subject(folder, NAME, change, answer)
    found = subject.run(range(count))
    assert defects(found) == []
    assert {o.text for o in found if o.kind == ANSWERED} <= {subject.unchanged()}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("name", "change"), [*((n, changed_bytes) for n in FILES), *((n, changed_json) for n in JSON)]
)
def test_a_model_that_means_harm_breaks_nothing(folder: Path, name: str, change: Change, count: int) -> None:
    """Every hash is right, so that the changed file reaches the parsers and onnxruntime."""
    assert defects(Subject(folder, name, change, answer, seal_again).run(range(count))) == []


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", [NAME, *FILES])
def test_unverified_files_break_nothing(folder: Path, name: str, count: int) -> None:
    read = partial(answer, verify=False)
    assert defects(Subject(folder, name, changed_bytes, read).run(range(count))) == []


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("change", [changed_bytes, changed_json])
def test_what_people_read_of_a_manifest(folder: Path, change: Change, count: int) -> None:
    assert defects(Subject(folder, NAME, change, inspect_answer).run(range(2 * count))) == []


@pytest.mark.parametrize("count", COUNTS)
def test_token_files(tmp_path: Path, count: int) -> None:
    np.save(tmp_path / "tokens.npy", np.arange(100))
    assert defects(Subject(tmp_path, "tokens.npy", changed_bytes, token_answer).run(range(4 * count))) == []
