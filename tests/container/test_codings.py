"""Each coding by itself: literal payloads, and anything at all comes back."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dareq_edge.container import pairs, planes
from dareq_edge.container.codings import DECODERS
from dareq_edge.container.frames import encode_frame
from dareq_edge.container.layout import CODINGS
from dareq_edge.container.regions import Kind
from dareq_edge.container.workspace import Workspace
from dareq_edge.container.zstd import huffman

WORK = Workspace()
KINDS: tuple[Kind, ...] = ("codes8", "codes4", "floats", "bytes")


def decoded(coding: str, payload: bytes, n: int) -> NDArray[np.uint8]:
    out = np.full(n, 0xAA, np.uint8)
    DECODERS[coding](memoryview(payload), out, WORK)
    return out


def frame(content: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(content)


def test_pairs_by_hand() -> None:
    """128 129 | 127 200: the low nibble is the first half's, and the pair of 129 and 200 is an escape."""
    body = frame(b"\x78\x00")
    payload = struct.pack("<II", 1, len(body)) + body + frame(bytes([129, 200]))
    assert decoded("pairs", payload, 4).tolist() == [128, 129, 127, 200]


def test_pairs_of_an_odd_number_of_codes() -> None:
    body = frame(b"\x97\x89")
    assert decoded("pairs", struct.pack("<II", 0, len(body)) + body, 3).tolist() == [127, 129, 129]
    codes = np.array([128, 130, 7], np.uint8)
    payload = pairs.encode(np.tile(codes, 101))
    assert payload is None or decoded("pairs", payload, 303).tolist() == codes.tolist() * 101


def test_planes_by_hand() -> None:
    """Two rows of one value each, 1.5 and -2, written three times."""
    parts = [frame(bytes(2)), frame(bytes(2)), frame(b"\xc0\x00"), frame(b"\x3f\xc0")]
    payload = struct.pack("<5I", 12, *map(len, parts)) + b"".join(parts)
    assert decoded("planes", payload, 24).view("<f4").tolist() == [1.5, 1.5, 1.5, -2, -2, -2]


def test_replicated_scales_cost_what_one_column_costs() -> None:
    scales = np.random.default_rng(0).random((768, 1), np.float32)
    wide = np.ascontiguousarray(scales.repeat(4, axis=1))
    one, four = (planes.encode(a.view(np.uint8).reshape(-1), a.shape[1] * 4) for a in (scales, wide))
    assert one is not None
    assert four is not None
    assert len(one) == len(four)
    changed = wide.copy()
    changed[5, 2] += 1
    longer = planes.encode(changed.view(np.uint8).reshape(-1), 16)
    assert longer is not None
    assert decoded("planes", longer, changed.nbytes).tobytes() == changed.tobytes()


@pytest.mark.parametrize("share", [0.0, 1e-4, 1e-3, 0.005, 0.014])
@pytest.mark.parametrize("n", [100_000, 100_001])
def test_pairs_at_every_share_of_escapes(share: float, n: int) -> None:
    """None, those searched for one by one, those found by a scan."""
    rng = np.random.default_rng(5)
    codes = np.where(rng.random(n) < share, rng.integers(0, 256, n), rng.integers(126, 131, n)).astype(np.uint8)
    payload = pairs.encode(codes)
    assert payload is not None
    assert np.array_equal(decoded("pairs", payload, n), codes)


def test_pairs_give_up_on_wide_codes() -> None:
    assert pairs.encode(np.random.default_rng(6).integers(0, 256, 10_000, dtype=np.uint8)) is None


def test_rare_pairs_are_escapes() -> None:
    """Of 2^16 pairs one kind occurs three times: it must not take a code word from the others."""
    codes = np.full(1 << 17, 128, np.uint8)
    codes[[5, 50, 500]] = 135
    payload = pairs.encode(codes)
    assert payload is not None
    assert struct.unpack_from("<I", payload) == (3,)
    assert np.array_equal(decoded("pairs", payload, len(codes)), codes)


def test_huffman_frames_hold_next_to_no_matches() -> None:
    """At two bits level 1 spends a quarter more than the entropy on matches of random codes."""
    codes = (np.random.default_rng(7).normal(0, 0.97, 1 << 19).round() + 128).astype(np.uint8)
    shares = np.bincount(codes) / len(codes)
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    assert len(huffman(codes)) * 8 / len(codes) < 1.12 * entropy
    assert len(zstandard.ZstdCompressor(level=1).compress(codes.tobytes())) * 8 / len(codes) > 1.2 * entropy


COPIES = st.integers(1, 6)
NEAR = st.binary(max_size=400).map(lambda b: bytes(120 + (x & 15) for x in b))


@settings(max_examples=300, deadline=None)
@given(
    data=st.one_of(st.binary(max_size=400), NEAR),
    kind=st.sampled_from(KINDS),
    row=st.integers(1, 40),
    n=st.integers(1, 6),
)
def test_any_bytes_come_back(data: bytes, kind: Kind, row: int, n: int) -> None:
    content = data * n
    if not content:
        return
    entry, payload = encode_frame(np.frombuffer(content, np.uint8), kind, row)
    assert entry.coded == len(payload) <= entry.raw == len(content)
    assert decoded(CODINGS[entry.coding], payload, len(content)).tobytes() == content


@pytest.mark.parametrize("kind", KINDS)
def test_an_unaligned_place_to_decode_into(kind: Kind) -> None:
    rng = np.random.default_rng(8)
    data = (rng.normal(0, 1, 4096).round() + 128).astype(np.uint8)
    entry, payload = encode_frame(data, kind, 8)
    whole = np.zeros(4099, np.uint8)
    DECODERS[CODINGS[entry.coding]](memoryview(payload), whole[3:], WORK)
    assert np.array_equal(whole[3:], data)
