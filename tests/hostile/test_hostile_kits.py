"""A changed kit or result: the verdict refuses in one sentence, and never rests on a file of another hash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dareq_runtime.kit.judging import judge
from dareq_runtime.kit.result import read_result
from hostile.forks import ANSWERED, DEFECT
from hostile.mutations import changed_bytes, changed_json
from hostile.subjects import Change, Subject, command
from kits import bundle, random_tokens, reseal, validate_module
from packed_folders import SMALLEST, tiny_export

COUNTS = [pytest.param(25, id="fast"), pytest.param(1500, id="all", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kit as folder and as zip, and a device's result."""
    place = tmp_path_factory.mktemp("kits")
    tokens = random_tokens(60, SMALLEST.vocab)
    tiny_export(place / "o")
    bundle(place / "o", place / "kit", tokens, window=20)
    bundle(place / "o", place / "kit.zip", tokens, window=20)
    module = validate_module(place / "kit/validate.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["validate.py", "--threads", "1", "--out", str(place / "result.json")])
        assert module.main() == 0
    yield place


def with_folder(place: Path) -> str:
    return json.dumps(judge(read_result(place / "result.json"), place / "kit").to_json())


def with_zip(place: Path) -> str:
    return json.dumps(judge(read_result(place / "result.json"), place / "kit.zip").to_json())


def alone(place: Path) -> str:
    return command("verdict", place / "result.json")


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["kit.json", "kit.sha256", "reference/int8.nll.npy"])
def test_no_changed_kit_gives_a_verdict(place: Path, name: str, count: int) -> None:
    found = Subject(place, f"kit/{name}", changed_bytes, with_folder).run(range(count))
    assert [o for o in found if o.kind in (DEFECT, ANSWERED)] == []


@pytest.mark.parametrize("count", COUNTS)
def test_a_changed_zip_gives_the_right_verdict_or_none(place: Path, count: int) -> None:
    subject = Subject(place, "kit.zip", changed_bytes, with_zip)
    found = subject.run(range(count))
    assert [o for o in found if o.kind == DEFECT] == []
    assert {o.text for o in found if o.kind == ANSWERED} <= {subject.unchanged()}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("change", [changed_bytes, changed_json])
def test_results(place: Path, change: Change, count: int) -> None:
    found = Subject(place, "result.json", change, alone).run(range(count))
    assert [o for o in found if o.kind == DEFECT] == []


def follow(place: Path) -> None:
    """Seal the kit again, and make the result one of it."""
    reseal_quietly(place / "kit")
    record = json.loads((place / "result.json").read_text())
    record["kit"] = (place / "kit/kit.sha256").read_text().split()[0]
    (place / "result.json").write_text(json.dumps(record))


def reseal_quietly(kit: Path) -> None:
    """``reseal``, also where kit.json is no longer one that it understands."""
    from hashlib import sha256

    try:
        reseal(kit)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        digest = sha256((kit / "kit.json").read_bytes()).hexdigest()
        (kit / "kit.sha256").write_text(f"{digest}  kit.json\n")


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("name", "change"),
    [("kit.json", changed_json), ("kit.json", changed_bytes), ("reference/int8.nll.npy", changed_bytes)],
)
def test_a_kit_that_means_harm_breaks_nothing(place: Path, name: str, change: Change, count: int) -> None:
    found = Subject(place, f"kit/{name}", change, with_folder, follow).run(range(count))
    assert [o for o in found if o.kind == DEFECT] == []
