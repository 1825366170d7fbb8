"""What the commands of ``stages`` work on; each made once per process, and only if a test needs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dareq_edge.packed import pack_folder
from hostile.kills import Child, Prepare
from hostile.stages import NEEDS, QUICK, Stage
from packed_folders import SMALLEST, tiny_export


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder, the same packed, and tokens for either model."""
    place = tmp_path_factory.mktemp("exported")
    pack_folder(tiny_export(place / "o"), place / "p")
    np.save(place / "t.npy", np.random.default_rng(0).integers(3, SMALLEST.vocab, 300))
    return place


@pytest.fixture(scope="session")
def sources(exported: Path) -> Path:
    """A float model and its quantized checkpoint beside them."""
    from tiny_models import tiny_opt

    tiny_opt(exported / "m")
    made = Child(["quantize", str(exported / "m"), "--out", str(exported / "q"), *QUICK], [one_thread]).wait()
    assert made.code == 0, made.said
    return exported


@pytest.fixture(scope="session")
def captured(sources: Path) -> list[Prepare]:
    """What a child does first that exports ``q``: the capture, which takes seconds, is done here once for all."""
    from dareq_export import export as export_module
    from dareq_export.capture import capture, read_config
    from dareq_export.source import QuantizedSource

    plan = QuantizedSource.open(sources / "q").plan
    found = capture(read_config(sources / "q"), plan)

    def known() -> None:
        export_module.capture = lambda config, wanted: found if wanted == plan else pytest.fail("another plan")

    return [known]


def one_thread() -> None:
    """A pool of threads does not survive a fork."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def stage(request: pytest.FixtureRequest, exported: Path, tmp_path: Path) -> Iterator[Stage]:
    """The command that the test names, in an empty place."""
    prepare: list[Prepare] = []
    for need in NEEDS[request.param]:
        made = request.getfixturevalue(need)
        prepare += [one_thread] if need == "sources" else made
    (tmp_path / "place").mkdir()
    yield Stage(request.param, exported, tmp_path / "place", prepare)
