"""Containers whose checksums are right and whose content is not: refused in one sentence, in little memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import zstandard

from container_forge import forge
from dareq_edge.container import Container
from dareq_edge.container.layout import MAGIC, VERSION, Entry
from dareq_edge.errors import ArtifactError

MIB = 1 << 20
ROOT = Path(__file__).parents[2]


def refuse(path: Path, match: str) -> None:
    """Opening and decoding must fail with a sentence that names the file, in little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match=match) as caught:
            for _ in Container.open(path).frames():
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert peak < 8 * MIB


def raw_header(version: int, frames: int, nbytes: int, rest: bytes = b"") -> bytes:
    body = struct.pack("<8sIIQ32s", MAGIC, version, frames, nbytes, bytes(32)) + rest
    return body + sha256(body).digest()


def zframe(content: bytes, **options: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(**({"write_checksum": 1} | options))
    return zstandard.ZstdCompressor(compression_params=parameters).compress(content)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a container"),
        (b"\x89DQZ", "not a container"),
        (b"x" * 200, "not a container"),
        (raw_header(VERSION + 1, 0, 0), "version 2"),
        (raw_header(VERSION, 2**32 - 1, 2**63), "too few for a table of 4294967295"),
        (raw_header(VERSION, 1, MIB)[:100], "too few"),
        (raw_header(VERSION, 0, 2**40), "frames for another length"),
        (raw_header(VERSION, 0, 0) + b"\0", "not what its header says"),
    ],
)
def test_headers_are_refused(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "bad.dqz"
    path.write_bytes(content)
    refuse(path, match)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        (Entry(4, 0, 0, 4, 4, 0), "kind or coding"),
        (Entry(0, 6, 0, 4, 4, 0), "kind or coding"),
        (Entry(0, 0, 1, 4, 4, 0), "impossible length"),
        (Entry(0, 0, 0, 0, 4, 0), "impossible length"),
        (Entry(0, 0, 0, 5, 4, 0), "impossible length"),
        (Entry(0, 1, 0, 5, 4, 0), "impossible length"),
        (Entry(0, 2, 0, 5, 0, 0), "impossible length"),
        (Entry(0, 2, 0, 3, 4, 0), "impossible length"),
        (Entry(0, 2, 0, MIB + 1, 4, 0), "impossible length"),
        (Entry(0, 2, 0, 2**32 - 1, 4, 0), "impossible length"),
        (Entry(0, 2, 0, 9, 5, 0), "not what its header says"),
    ],
)
def test_table_entries_are_refused(tmp_path: Path, row: Entry, match: str) -> None:
    refuse(forge(tmp_path / "forged.dqz", [("stored", 4, b"abcd")], nbytes=row.raw, entries=[row]), match)


def test_lengths_that_wrap_around_are_refused(tmp_path: Path) -> None:
    frames = [("zeros", MIB, b"")] * 4
    refuse(forge(tmp_path / "forged.dqz", frames, nbytes=4 * MIB + 2**63), "frames for another length")


def test_a_small_file_cannot_claim_much(tmp_path: Path) -> None:
    path = forge(tmp_path / "forged.dqz", [("zeros", MIB, b"")])
    assert path.stat().st_size == 108
    assert Container.open(path).nbytes == MIB


NOISE = np.random.default_rng(0).integers(0, 256, 500, dtype=np.uint8).tobytes()
RLE = struct.pack("<I", (128 << 10) << 3 | 2)[:3] + b"x"  # a block of 128 KiB in four bytes
BOMB = bytes.fromhex("28b52ffd") + b"\xa4" + struct.pack("<I", MIB) + RLE * 99 + b"\x03\x00\x10x" + bytes(4)
WINDOW = bytes.fromhex("28b52ffd") + b"\x84\xff" + struct.pack("<I", 600) + b"\x01\x00\x00" + bytes(4)


@pytest.mark.parametrize(
    ("coding", "raw", "payload", "match"),
    [
        ("zstd", MIB, zframe(bytes(64 * MIB)), "claims 67108864 bytes, not 1048576"),
        ("zstd", MIB, zframe(bytes(1000)), "claims 1000 bytes"),
        ("zstd", MIB, zframe(bytes(MIB), write_content_size=0), "claims"),
        ("zstd", MIB, zframe(bytes(MIB), write_checksum=0), "lacks its checksum"),
        ("zstd", MIB, zframe(bytes(MIB)) + b"x", "ends elsewhere"),
        ("zstd", MIB, zframe(bytes(MIB)) + zframe(b""), "ends elsewhere"),
        ("zstd", 600, zframe(NOISE + bytes(100))[:-1], "ends elsewhere"),
        ("zstd", 600, b"not zstd", "damaged in frame 0"),
        ("zstd", MIB, BOMB, "damaged in frame 0"),
        ("zstd", 600, WINDOW, "damaged in frame 0"),
        ("pairs", 600, b"1234567", "no head"),
        ("pairs", 600, struct.pack("<II", 301, 8) + bytes(9), "claims 301 escapes"),
        ("pairs", 600, struct.pack("<II", 1, 500) + bytes(9), "claims 1 escapes"),
        ("pairs", 600, struct.pack("<II", 0, 8) + bytes(9), "claims 0 escapes"),
        (
            "pairs",
            600,
            struct.pack("<II", 0, len(zframe(bytes(300)))) + zframe(bytes(300)),
            "1 escapes or more, not 0",
        ),
        ("planes", 600, b"123", "no head"),
        ("planes", 600, struct.pack("<5I", 7, 1, 1, 1, 1) + b"1234", "rows of 7"),
        ("planes", 600, struct.pack("<5I", 0, 2**32 - 1, 2**32 - 1, 2**32 - 1, 7) + b"1234", "parts of"),
        ("planes", 600, struct.pack("<5I", 4, 1, 1, 1, 1) + b"1234", "damaged in frame 0"),
        ("planes", 602, struct.pack("<5I", 0, 1, 1, 1, 1) + b"1234", "rows of 0"),
    ],
)
def test_payloads_are_refused(tmp_path: Path, coding: str, raw: int, payload: bytes, match: str) -> None:
    refuse(forge(tmp_path / "forged.dqz", [(coding, raw, payload)]), match)


LIMITED = """
import resource, sys
from pathlib import Path
from dareq_edge.container import Container
from dareq_edge.errors import ArtifactError
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (32 << 20),) * 2)
for path in sys.argv[1:]:
    try:
        list(Container.open(Path(path)).frames())
    except ArtifactError as error:
        print("refused", error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux: the memory in use is read from /proc")
def test_hostile_files_fit_into_32_mib(tmp_path: Path) -> None:
    """What tracemalloc cannot see: the decoder's own memory."""
    payloads = [BOMB, WINDOW, zframe(bytes(64 * MIB)), zframe(bytes(MIB))[:-9]]
    paths = [forge(tmp_path / str(i), [("zstd", MIB, payload)]) for i, payload in enumerate(payloads)]
    (tmp_path / "table").write_bytes(raw_header(VERSION, 2**32 - 1, 2**63))
    command = [sys.executable, "-c", LIMITED, *map(str, paths), str(tmp_path / "table")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.count("refused") == 5, done.stderr


def test_a_file_changed_after_it_was_opened(tmp_path: Path) -> None:
    path = forge(tmp_path / "forged.dqz", [("stored", 4, b"abcd"), ("stored", 4, b"efgh")])
    container = Container.open(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="frame 1"):
        container.decode_into(np.empty(8, np.uint8), threads=1)
    path.unlink()
    with pytest.raises(ArtifactError, match="cannot be read"):
        container.decode_into(np.empty(8, np.uint8), threads=2)
    with pytest.raises(ArtifactError, match="cannot be read"):
        Container.open(path)


def test_a_wrong_place_to_decode_into(tmp_path: Path) -> None:
    container = Container.open(forge(tmp_path / "forged.dqz", [("stored", 4, b"abcd")]))
    for out in (np.empty(5, np.uint8), np.empty(4, np.int8), np.empty((2, 2), np.uint8), np.empty(8, np.uint8)[::2]):
        with pytest.raises(ArtifactError, match="unpacks to 4 bytes"):
            container.decode_into(out)  # type: ignore[arg-type]
