"""The bytes of version 1: a container written once must be readable for ever."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dareq_edge.container import Container, Region, encode
from dareq_edge.container.layout import FRAME_LIMIT
from dareq_edge.container.regions import FRAME, cover, cut
from dareq_edge.errors import SpecError

GOLDEN = Path(__file__).with_name("version-1.dqz")

ABC = bytes.fromhex(
    "8944515a0d0a1a0a 01000000 02000000 0800000000000000"  # magic, version, 2 frames, 8 bytes
    "ce3172860f253e5bfdc1556198b48076f408dd224a83bbb75bd97a5f80374efd"  # sha256 of the 8 bytes
    "00 00 0000 03000000 03000000 c241243500000000"  # bytes, stored, 3, 3, crc32 of b"abc"
    "00 01 0000 05000000 00000000 0000000000000000"  # bytes, zeros, 5, 0, sum of nothing
)


def golden() -> tuple[bytes, list[Region]]:
    """One frame of every coding."""
    codes = np.tile(np.array([127, 128, 129, 130], np.uint8), 40)
    codes[7] = 200
    scales = np.repeat((np.arange(1, 257) ** 3 % 251).astype("<f4"), 2)
    parts = [codes.tobytes(), bytes(32), b"abc", scales.tobytes(), b"the same words again and " * 6]
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    regions = [
        Region(starts[0], 160, "codes8", 40),
        Region(starts[1], 32, "bytes", 1),
        Region(starts[2], 3, "bytes", 1),
        Region(starts[3], 2048, "floats", 8),
    ]
    return b"".join(parts), regions


def test_the_smallest_container_byte_by_byte(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(b"abc" + bytes(5))
    encode(tmp_path / "raw", [Region(0, 3, "bytes", 1)], tmp_path / "packed")
    assert (tmp_path / "packed").read_bytes() == ABC + sha256(ABC).digest() + b"abc"


def test_the_golden_container_is_read() -> None:
    container = Container.open(GOLDEN)
    content, regions = golden()
    assert container.sha256 == sha256(content).hexdigest()
    assert b"".join(data for _, data in container.frames()) == content
    assert [e.coding for e in container.header.entries()] == [3, 1, 0, 4, 2]
    assert [e.kind for e in container.header.entries()] == [1, 0, 0, 3, 0]
    assert len(regions) == 4


def test_the_golden_container_is_written_alike(tmp_path: Path) -> None:
    """All but what zstd itself chooses: lengths and checks of payloads."""
    content, regions = golden()
    (tmp_path / "raw").write_bytes(content)
    encode(tmp_path / "raw", regions, tmp_path / "packed")
    ours, theirs = (list(Container.open(path).header.entries()) for path in (tmp_path / "packed", GOLDEN))
    assert [e[:4] for e in ours] == [e[:4] for e in theirs]


@settings(max_examples=200, deadline=None)
@given(nbytes=st.integers(1, 5 * FRAME), row=st.integers(1, 3 * FRAME), floats=st.booleans())
def test_frames_cover_a_region(nbytes: int, row: int, floats: bool) -> None:
    """In order, none beyond the limit, none needlessly small, floats by whole rows where a row fits."""
    pieces = list(cut(Region(7, nbytes, "floats" if floats else "codes8", row)))
    assert pieces[0].offset == 7
    assert all(a.offset + a.nbytes == b.offset for a, b in pairwise(pieces))
    assert sum(p.nbytes for p in pieces) == nbytes
    assert max(p.nbytes for p in pieces) <= FRAME_LIMIT
    if floats and row <= FRAME_LIMIT:
        assert all(p.nbytes % row == 0 for p in pieces[:-1])
    elif len(pieces) > 1:
        assert min(p.nbytes for p in pieces[:-1]) >= FRAME // 2


def test_gaps_are_bytes() -> None:
    regions = [Region(3, 4, "floats", 4), Region(9, 1, "codes4", 1)]
    found = [(r.offset, r.nbytes, r.kind) for r in cover(regions, 12)]
    assert found == [(0, 3, "bytes"), (3, 4, "floats"), (7, 2, "bytes"), (9, 1, "codes4"), (10, 2, "bytes")]


@pytest.mark.parametrize("fields", [(-1, 4, "bytes", 1), (0, 0, "bytes", 1), (0, 4, "bytes", 0), (0, 4, "codes2", 1)])
def test_impossible_regions(fields: tuple[int, int, str, int]) -> None:
    with pytest.raises(SpecError, match="no region"):
        Region(*fields)  # type: ignore[arg-type]
