"""Two processes write the same folder: one wins, the other says so and leaves the winner's folder alone."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest

from dareq_edge.errors import SpecError
from dareq_edge.folders import exchange, new_folder
from fast import fast
from hostile.kills import At, Child, visible
from hostile.stages import COMMANDS, Stage


@pytest.mark.parametrize("more", [(), ("--overwrite",)], ids=["new", "overwrite"])
@pytest.mark.parametrize("stage", fast(COMMANDS, "pack"), indirect=True)
def test_the_second_says_so(stage: Stage, more: tuple[str, ...]) -> None:
    """The first is held before a change in the middle of its work, until the second has ended."""
    gate, opened = os.pipe()
    held = At(stage.whole.events // 2, partial(os.read, gate, 1))
    first = Child([*stage.command, *more], [*stage.prepare, held])
    patience = time.monotonic() + 120
    while not any(stage.place.iterdir()):  # until it has its lock
        assert time.monotonic() < patience
        time.sleep(0.01)
    second = Child([*stage.command, *more], stage.prepare).wait()
    assert second.code == 1, second.said
    assert f"another process is writing {stage.place / stage.name}; wait for it" in second.said
    os.write(opened, b"x")
    assert first.wait().code == 0
    os.close(gate)
    os.close(opened)
    assert visible(stage.place) == {stage.name: stage.made}
    assert [p.name for p in stage.place.iterdir()] == [stage.name]


def test_a_folder_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """Whoever does not ask for the lock can still not be overwritten without --overwrite."""
    with pytest.raises(SpecError, match="already exists"), new_folder(tmp_path / "out") as scratch:
        (scratch / "mine").touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out/theirs").touch()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["theirs"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_link_in_the_place_of_a_folder_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/precious").touch()
    (tmp_path / "out").symlink_to("elsewhere")
    with new_folder(tmp_path / "out", overwrite=True) as scratch:
        (scratch / "new").touch()
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        *("elsewhere", "elsewhere/precious", "out", "out/new")
    ]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".out.1a2b3c4d.partial", ".out.1a2b3c4e.old", ".out.b.1a2b3c4d.partial", ".out.resume", ".out.d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    (tmp_path / ".out.lock").touch()
    with pytest.raises(SpecError, match="already exists"), new_folder(tmp_path / "out"):
        pytest.fail("what was there before the kill has its place again")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x"]
    with new_folder(tmp_path / "out", overwrite=True) as scratch:
        (scratch / "new").touch()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".out.b.1a2b3c4d.partial", ".out.d", ".out.resume", "out"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]


def test_names_are_exchanged_at_once_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("b")
    done = exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").is_dir() is done
    assert (tmp_path / "a").is_file() is done
    assert exchange(tmp_path / "a", tmp_path / "none") is False
    assert (tmp_path / "a").exists()
