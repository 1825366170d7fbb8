from __future__ import annotations

import hashlib
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dareq_edge.errors import ArtifactError
from dareq_edge.manifest import PIECE, Manifest
from dareq_runtime import load, verification
from dareq_runtime.verification import verified


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose graph counts as small and whose weights count as large."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    sizes = [(folder / n).stat().st_size for n in ("model.onnx", "model.onnx.data")]
    assert sizes[0] < sizes[1]
    monkeypatch.setattr(verification, "SMALL", sizes[1])
    return folder


def tamper(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_whole_folder_is_hashed(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    whole = Manifest.verify

    def spy(manifest: Manifest, folder: Path, *, hashes: bool = True) -> None:
        hashed.extend(manifest.files if hashes else [])
        whole(manifest, folder, hashes=hashes)

    monkeypatch.setattr(Manifest, "verify", spy)
    load(copy)
    assert sorted(hashed) == sorted(Manifest.read(copy).files)


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "config.json"])
def test_no_model_comes_of_a_tampered_file(copy: Path, name: str) -> None:
    tamper(copy / name)
    with pytest.raises(ArtifactError, match=f"{name} does not match its sha256"):
        load(copy)


def test_small_files_are_checked_before_anything_reads_them(copy: Path) -> None:
    tamper(copy / "model.onnx")
    with pytest.raises(ArtifactError, match="sha256"), verified(Manifest.read(copy), copy):
        pytest.fail("the block must not begin")


def test_a_tampered_file_explains_the_block_s_error(copy: Path) -> None:
    tamper(copy / "model.onnx.data")
    with pytest.raises(ArtifactError, match=r"data does not match"), verified(Manifest.read(copy), copy):
        raise ArtifactError("onnxruntime cannot load it")


def test_the_block_s_own_error_is_kept(copy: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot load it"), verified(Manifest.read(copy), copy):
        raise ArtifactError("onnxruntime cannot load it")


def test_the_block_runs_while_large_files_are_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, whole = threading.Event(), Manifest.verify

    def waits(manifest: Manifest, folder: Path, *, hashes: bool = True) -> None:
        if "model.onnx.data" in manifest.files and hashes:
            assert begun.wait(30)
        whole(manifest, folder, hashes=hashes)

    monkeypatch.setattr(Manifest, "verify", waits)
    with verified(Manifest.read(copy), copy):
        begun.set()


def test_sizes_are_compared_in_any_case(copy: Path) -> None:
    with (copy / "model.onnx.data").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ArtifactError, match="bytes, expected"), verified(Manifest.read(copy), copy, hashes=False):
        pytest.fail("the block must not begin")


@pytest.fixture
def large(tmp_path: Path) -> tuple[Path, Manifest]:
    """A folder with one file of two and a half pieces, and what it should hold."""
    content = np.random.default_rng(0).bytes(5 * PIECE // 2)
    (tmp_path / "weights").write_bytes(content)
    return tmp_path, Manifest("onnx", "test").with_files(tmp_path)


def test_pieces_are_the_hashes_of_their_bytes(large: tuple[Path, Manifest]) -> None:
    folder, manifest = large
    content = (folder / "weights").read_bytes()
    parts = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    assert manifest.pieces == {"weights": tuple(hashlib.sha256(part).hexdigest() for part in parts)}
    manifest.write(folder)
    assert Manifest.read(folder).pieces == manifest.pieces


@pytest.mark.parametrize("where", [0, PIECE - 1, PIECE, 2 * PIECE + 5, 5 * PIECE // 2 - 1])
def test_a_flipped_bit_in_any_piece_is_found(large: tuple[Path, Manifest], where: int) -> None:
    folder, manifest = large
    with verified(manifest, folder):
        pass
    content = bytearray((folder / "weights").read_bytes())
    content[where] ^= 1
    (folder / "weights").write_bytes(content)
    with pytest.raises(ArtifactError, match="weights does not match its sha256"), verified(manifest, folder):
        pass


@pytest.mark.parametrize("pieces", [{}, {"weights": ("00",)}], ids=["older folder", "too few pieces"])
def test_without_all_pieces_the_whole_file_counts(large: tuple[Path, Manifest], pieces: dict) -> None:
    folder, manifest = large
    manifest = replace(manifest, pieces=pieces)
    with verified(manifest, folder):
        pass
    tamper(folder / "weights")
    with pytest.raises(ArtifactError, match="sha256"), verified(manifest, folder):
        pass
