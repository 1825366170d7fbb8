"""A full disk at any point: one sentence, and nothing that was not there before."""

from __future__ import annotations

import resource
from functools import partial

import pytest

from fast import fast
from hostile.kills import Child, visible
from hostile.stages import COMMANDS, Stage


def limit(size: int) -> None:
    """As a full disk: no file may grow beyond so many bytes (Python ignores the signal, and gets the error)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9])
@pytest.mark.parametrize("stage", fast(COMMANDS, "quantize", "pack", "bundle", "zip"), indirect=True)
def test_no_room(stage: Stage, share: float) -> None:
    largest = max(len(data) for data in stage.made.values())
    old = stage.old()
    size = int(share * largest)
    found = Child([*stage.command, "--overwrite"], [*stage.prepare, partial(limit, size)]).wait()
    assert found.code == 1, found.said
    assert "no space left while writing" in found.said
    assert "Traceback" not in found.said
    assert visible(stage.place) == old
    assert [p.name for p in stage.place.iterdir()] == [stage.name]
