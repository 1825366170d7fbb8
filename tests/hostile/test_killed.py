"""kill -9 at any point: the old folder, the new one, or none; and the same command again finishes."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from hostile.kills import Run, killed_after, killed_at, visible
from hostile.stages import COMMANDS, Stage

POINTS = 60


def points(stage: Stage, count: int) -> Iterator[tuple[str, Run]]:
    """Kill it at so many points, spread over what it does to the file system and, a third, over its time."""
    random, events = Random(0), stage.whole.events
    for number in range(count):
        more = [] if number % 2 else ["--overwrite"]
        before = stage.old() if more else {}
        if number % 3 < 2:
            at = 1 + number * events // count
            how, run = f"before change {at} of {events}", killed_at([*stage.command, *more], at, stage.prepare)
        else:
            seconds = random.uniform(0, stage.whole.seconds)
            how, run = f"after {seconds:.3f} s", killed_after([*stage.command, *more], seconds, stage.prepare)
        after = visible(stage.place)
        assert after in (before, {stage.name: stage.made}), how
        if run.code < 0:
            yield how, run
        left = [] if not after or more else ["--overwrite"]
        stage.again(*more, *left)
        assert visible(stage.place) == {stage.name: stage.made}, how
        stage.clear()


FAST = [pytest.param(name, 6, id=name) for name in ("quantize", "pack", "bundle")]
ALL = [pytest.param(name, POINTS, id=f"{name}-all", marks=pytest.mark.slow) for name in COMMANDS]


@pytest.mark.parametrize(("stage", "count"), [*FAST, *ALL], indirect=["stage"])
def test_killed_at_any_point(stage: Stage, count: int) -> None:
    killed = [how for how, _ in points(stage, count)]
    print(
        f"{stage.command[0]}: {len(killed)} of {count} runs killed, {stage.whole.events} changes of the file system"
    )
    assert len(killed) >= count * 0.6  # a random time may be after the end
