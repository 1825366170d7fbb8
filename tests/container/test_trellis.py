"""Coding of codes whose grids take turns: against the rule row by row, and anything else left to others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dareq_edge.container import coded_bytes, trellis
from dareq_edge.container.frames import encode_frame
from dareq_edge.container.layout import CODINGS
from dareq_edge.container.workspace import Workspace
from dareq_edge.container.zstd import DamagedError

Past = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Grids of the five rows before, and lowest bits of the three, the latest last: [5, K] and [3, K]."""


def machine(k: NDArray[np.int64], past: Past) -> tuple[NDArray[np.uint8], Past]:
    """Codes + 128 of indices [R, K], row by row as the rule is written, and the past of the row after them."""
    codes, grids, lows = np.empty(k.shape, np.uint8), list(past[0]), list(past[1])
    for i, row in enumerate(k):
        grids.append(grids[-2] ^ grids[-5] ^ lows[-3])
        lows.append(row & 1)
        codes[i] = 2 * row - np.sign(row) * grids[-1] + 128
    return codes, (np.stack(grids[-5:]), np.stack(lows[-3:]))


def draw(seed: int, rows: int, columns: int, size: float) -> tuple[NDArray[np.int64], Past]:
    rng = np.random.default_rng(seed)
    k = np.clip(np.rint(rng.standard_normal((rows, columns)) * size), -63, 63).astype(np.int64)
    return k, (rng.integers(0, 2, (5, columns)), rng.integers(0, 2, (3, columns)))


def nothing(columns: int) -> Past:
    return np.zeros((5, columns), np.int64), np.zeros((3, columns), np.int64)


def unpacked(payload: bytes, size: int) -> NDArray[np.uint8]:
    out = np.empty(size, np.uint8)
    trellis.decode(memoryview(payload), out, Workspace())
    return out


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 150),
    columns=st.integers(1, 40),
    size=st.sampled_from([0.3, 1.5, 20.0]),
)
def test_codes_of_the_state_machine_come_back(seed: int, rows: int, columns: int, size: float) -> None:
    codes, _ = machine(*draw(seed, rows, columns, size))
    payload = trellis.encode(codes.reshape(-1), columns)
    assert payload is not None
    assert np.array_equal(unpacked(payload, codes.size), codes.reshape(-1))


@pytest.mark.parametrize("rows", [1, 2, 4, 33, 200])
def test_states_after_are_those_of_the_machine(rows: int) -> None:
    k, _ = draw(3, rows, 50, 1.5)
    codes, (a, p) = machine(k, nothing(50))
    want = [a[-2] ^ a[-5] ^ p[-3], a[-1] ^ a[-4] ^ p[-2], a[-3] ^ p[-1], a[-2], a[-1]]
    assert np.array_equal(trellis.states_after((codes ^ 128).view(np.int8)), np.stack(want))


def test_there_is_no_state_but_the_first_without_rows() -> None:
    assert not trellis.states_after(np.zeros((0, 3), np.int8)).any()


@pytest.mark.parametrize("row", [10, 70, 130, 149])
def test_one_code_of_the_wrong_grid_is_noticed(row: int) -> None:
    codes, _ = machine(*draw(4, 150, 20, 3.0))
    codes[row, 7] = 133 if codes[row, 7] % 2 == 0 else 134
    assert trellis.encode(codes.reshape(-1), 20) is None


def test_the_smallest_coding_wins() -> None:
    k, start = draw(5, 700, 768, 1.4)
    codes, _ = machine(k, start)
    entry, payload = encode_frame(codes.reshape(-1), "codes8", 768)
    assert CODINGS[entry.coding] == "trellis"
    counts = np.bincount((k + 128).reshape(-1))
    p = counts[counts > 0] / k.size
    assert 8 * len(payload) / k.size < 1.03 * -(p * np.log2(p)).sum()
    plain = np.clip(np.rint(np.random.default_rng(0).standard_normal((700, 768)) * 2) + 128, 0, 255).astype(np.uint8)
    assert CODINGS[encode_frame(plain.reshape(-1), "codes8", 768)[0].coding] != "trellis"


def test_a_matrix_of_many_frames_stays_a_trellis() -> None:
    k, _ = draw(6, 3000, 576, 1.4)
    codes, _ = machine(k, nothing(576))
    scales = np.ones((3000, 1), np.float32)
    assert coded_bytes(codes, scales, 8) < 0.9 * coded_bytes(codes[:, ::-1].T.copy(), scales[:576], 8)


def test_payloads_of_another_form_are_refused() -> None:
    codes, _ = machine(*draw(7, 64, 16, 1.0))
    payload = trellis.encode(codes.reshape(-1), 16)
    assert payload is not None
    for broken in (
        payload[:3],
        payload[:6],
        b"\0" * 5 + payload[5:],
        payload[:4] + b"\7" + payload[5:],
        payload[:-1],
    ):
        with pytest.raises(DamagedError):
            unpacked(broken, codes.size)
    with pytest.raises(DamagedError):
        unpacked(payload, codes.size + 1)
