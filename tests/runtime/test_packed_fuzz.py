"""No byte of a packed folder can change, and no file of it end early, without a refusal before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dareq_edge.errors import ArtifactError
from dareq_edge.manifest import NAME, Manifest
from dareq_edge.packed import pack_folder
from dareq_runtime import load, loading
from dareq_runtime.packed import decode_weights
from dareq_runtime.verification import verified
from packed_folders import Flips, tiny_export

FILES = ("config.json", NAME, f"{NAME}.dqz", "model.onnx", "model.onnx.data.dqz")
STRIDE = 61  # bytes between those that go through the whole of load, which takes ten times as long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fuzz")
    pack_folder(tiny_export(place / "plain"), place / "packed")
    return place / "packed"


@pytest.fixture
def flips(folder: Path, request: pytest.FixtureRequest) -> Iterator[Flips]:
    assert sorted(FILES) == sorted(p.name for p in folder.iterdir())
    file = Flips(folder / request.param)
    yield file
    file.restore()


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object, **__: object) -> None:
        pytest.fail("a session was opened")

    monkeypatch.setattr(loading, "open_graph", opened)


def check(folder: Path) -> None:
    """What load does before it decodes."""
    with verified(Manifest.read(folder), folder):
        pass


def decode(folder: Path) -> None:
    """What load does with verify=False before it opens a session."""
    decode_weights(folder, Manifest.read(folder))


def refused(action: Callable[[Path], object], folder: Path) -> bool:
    try:
        action(folder)
    except ArtifactError as error:
        assert "\n" not in str(error)
        return True
    return False


@pytest.mark.parametrize("flips", FILES, indirect=True)
def test_every_changed_byte_is_found(folder: Path, flips: Flips) -> None:
    check(folder)
    missed = []
    for at in range(len(flips)):
        flips.flip(at, 1 << at % 8)
        if not refused(check, folder):
            missed.append(at)
        flips.restore()
    assert missed == []


@pytest.mark.parametrize("flips", FILES, indirect=True)
def test_every_early_end_is_found(folder: Path, flips: Flips) -> None:
    missed = []
    for size in range(len(flips)):
        flips.cut(size)
        if not refused(check, folder):
            missed.append(size)
        flips.restore()
    assert missed == []


@pytest.mark.parametrize("flips", FILES, indirect=True)
@pytest.mark.usefixtures("no_session")
def test_load_refuses_before_a_session_is_opened(folder: Path, flips: Flips) -> None:
    for at in range(0, len(flips), STRIDE):
        flips.flip(at, 255)
        assert refused(load, folder), at
        flips.restore()
        flips.cut(at)
        assert refused(load, folder), at
        flips.restore()


@pytest.mark.parametrize("flips", ["model.onnx.data.dqz", NAME], indirect=True)
def test_without_hashes_the_container_and_the_seal_still_find_every_byte(folder: Path, flips: Flips) -> None:
    decode(folder)
    missed = []
    for at in range(0, len(flips), 7):
        flips.flip(at, 1 << at % 8)
        if not refused(decode, folder):
            missed.append(at)
        flips.restore()
    assert missed == []
