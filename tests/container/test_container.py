"""Files come back byte for byte, whatever they hold, and damaged containers are refused."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dareq_edge.container import Container, Region, coded_bytes, encode
from dareq_edge.errors import ArtifactError, SpecError


def model(rng: np.random.Generator) -> tuple[bytes, list[Region]]:
    """A small model's data: 8-bit codes, 4-bit codes, replicated scales, float norms, text, gaps."""
    codes8 = (np.clip(np.rint(rng.normal(0, 2.3, (64, 520))), -128, 127) + 128).astype(np.uint8)
    codes4 = rng.integers(0, 256, (31, 33), dtype=np.uint8)
    scales = (rng.random((64, 1), np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).repeat(5, axis=1)
    norms = rng.random((1, 77), np.float32)
    parts: list[tuple[bytes, str, int]] = [
        (codes8.tobytes(), "codes8", 520),
        (bytes(4096), "gap", 0),
        (codes4.tobytes(), "codes4", 33),
        (scales.tobytes(), "floats", 20),
        (norms.tobytes(), "floats", 308),
        (b"a gap that holds something", "gap", 0),
        (b"plain text " * 50, "bytes", 1),
    ]
    regions, data = [], b""
    for content, kind, row in parts:
        if kind != "gap":
            regions.append(Region(len(data), len(content), kind, row))  # type: ignore[arg-type]
        data += content
    return data, regions


def packed(folder: Path, data: bytes, regions: list[Region], threads: int | None = None) -> Path:
    (folder / "raw").write_bytes(data)
    encode(folder / "raw", regions, folder / "packed.dqz", threads=threads)
    return folder / "packed.dqz"


def unpacked(path: Path, threads: int | None = None) -> NDArray[np.uint8]:
    container = Container.open(path)
    out = np.full(container.nbytes, 0xAA, np.uint8)
    container.decode_into(out, threads=threads)
    return out


@pytest.mark.parametrize("threads", [1, 3])
def test_a_model_comes_back(tmp_path: Path, threads: int) -> None:
    data, regions = model(np.random.default_rng(1))
    path = packed(tmp_path, data, regions, threads)
    container = Container.open(path)
    assert container.nbytes == len(data)
    assert container.sha256 == sha256(data).hexdigest()
    assert unpacked(path, threads).tobytes() == data
    frames = list(container.frames())
    assert [start for start, _ in frames] == list(np.cumsum([0] + [len(f) for _, f in frames[:-1]]))
    assert b"".join(f for _, f in frames) == data
    assert path.stat().st_size < 0.6 * len(data)


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    data, regions = model(np.random.default_rng(2))
    one = packed(tmp_path, data, regions, 1).read_bytes()
    assert packed(tmp_path, data, regions, 4).read_bytes() == one


def test_an_empty_file(tmp_path: Path) -> None:
    path = packed(tmp_path, b"", [])
    assert path.stat().st_size == 88
    assert unpacked(path).size == 0


def test_coded_bytes_is_what_a_container_takes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    codes = (np.clip(np.rint(rng.normal(0, 2, (900, 1100))), -128, 127) + 128).astype(np.uint8)
    scales = rng.random((900, 3), np.float32)
    data = codes.tobytes() + scales.tobytes()
    regions = [Region(0, codes.size, "codes8", 1100), Region(codes.size, scales.nbytes, "floats", 12)]
    assert packed(tmp_path, data, regions).stat().st_size == 88 + coded_bytes(codes, scales, 8)


def test_every_change_and_truncation_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    codes = (np.rint(rng.normal(0, 3, 300)) + 128).astype(np.uint8)
    scales = (rng.random((3, 1), np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).repeat(2, axis=1)
    data = codes.tobytes() + scales.tobytes() + b"ab" * 40
    regions = [Region(0, 300, "codes8", 100), Region(300, 24, "floats", 8)]
    path = packed(tmp_path, data, regions)
    whole = path.read_bytes()
    for at in range(len(whole)):
        for change in (1, 0x80, int(rng.integers(1, 256))):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])
            with pytest.raises(ArtifactError):
                unpacked(path, 1)
        path.write_bytes(whole[:at])
        with pytest.raises(ArtifactError):
            unpacked(path, 1)
    path.write_bytes(whole + b"\0")
    with pytest.raises(ArtifactError):
        unpacked(path, 1)
    path.write_bytes(whole)
    assert unpacked(path, 1).tobytes() == data


@pytest.mark.parametrize(
    "regions",
    [
        [Region(0, 11, "bytes", 1)],
        [Region(5, 5, "bytes", 1), Region(0, 5, "bytes", 1)],
        [Region(0, 6, "bytes", 1), Region(5, 5, "bytes", 1)],
    ],
)
def test_impossible_regions_are_refused(tmp_path: Path, regions: list[Region]) -> None:
    with pytest.raises(SpecError):
        packed(tmp_path, bytes(10), regions)
