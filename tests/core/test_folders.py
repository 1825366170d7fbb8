"""Folders appear whole or not at all, and names in them stay in them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dareq_edge.errors import ArtifactError, SpecError
from dareq_edge.folders import inside, new_file, new_folder


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "", "a\\..\\..\\x", "C:/x", "\\x"])
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="leads out of the folder"):
        inside(tmp_path, name)


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be a file"):
        inside(tmp_path, "x" * 20_000)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ArtifactError, match="cannot be a file"):
        inside(tmp_path, "loop/x")


@pytest.mark.parametrize("name", ["model.onnx", "onnx/model.onnx", "a..b"])
def test_a_name_inside_is_joined(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name


def test_the_links_of_a_hub_cache_are_followed(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs/1").write_text("weights")
    (tmp_path / "snapshots/c0ffee").mkdir(parents=True)
    (tmp_path / "snapshots/c0ffee/model.safetensors").symlink_to("../../blobs/1")
    assert inside(tmp_path / "snapshots/c0ffee", "model.safetensors").read_text() == "weights"


def test_links_within_a_folder_are_followed_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "model/deeper").mkdir(parents=True)
    (tmp_path / "model/weights").write_text("weights")
    (tmp_path / "model/same").symlink_to("weights")
    (tmp_path / "linked").symlink_to("model")
    assert inside(tmp_path / "linked", "same").read_text() == "weights"
    (tmp_path / "model/other").symlink_to("../secret")
    (tmp_path / "model/deeper/up").symlink_to("../..")
    for name in ("other", "deeper/up/secret"):
        with pytest.raises(ArtifactError, match="is a link that leads out of the folder"):
            inside(tmp_path / "model", name)


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyboardInterrupt()])
def test_nothing_is_left_after_a_failure(tmp_path: Path, error: BaseException) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "out") as scratch:
            (scratch / "half").write_text("x")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").write_text("kept")

    def fail() -> None:
        with new_folder(tmp_path / "out", overwrite=True):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ArtifactError, match="no space left"):
        fail()
    assert (tmp_path / "out/old").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 1


def test_overwrite_replaces_everything(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").write_text("gone")
    with new_folder(tmp_path / "out", overwrite=True) as scratch:
        (scratch / "new").write_text("x")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["new"]


def test_an_existing_folder_needs_overwrite(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").write_text("kept")

    def write() -> None:
        with new_folder(tmp_path / "out"):
            pass

    with pytest.raises(SpecError, match="--overwrite"):
        write()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "a.zip") as path:
        path.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with new_file(tmp_path / "a.zip") as path:
        path.write_text("whole")
        (path.parent / "work").mkdir()
        assert not (tmp_path / "a.zip").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
    with pytest.raises(SpecError, match="already exists"), new_file(tmp_path / "a.zip"):
        pytest.fail("the block must not begin")
    with new_file(tmp_path / "a.zip", overwrite=True) as path:
        path.write_text("new")
    assert (tmp_path / "a.zip").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
