"""Coding of codes whose grids take turns: against the state machine written out, and anything else left to others."""

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

TRANSITIONS = ((0, 2), (2, 0), (1, 3), (3, 1))  # H.266, table of dependent quantization with four states


def machine(k: NDArray[np.int64], start: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Codes + 128 of indices [R, K], state by state, and the states after them."""
    codes, states = np.empty(k.shape, np.uint8), start.copy()
    for i in range(k.shape[0]):
        for j in range(k.shape[1]):
            second = states[j] >= 2
            codes[i, j] = 2 * k[i, j] - (np.sign(k[i, j]) if second else 0) + 128
            states[j] = TRANSITIONS[states[j]][k[i, j] & 1]
    return codes, states


def draw(seed: int, rows: int, columns: int, size: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    k = np.clip(np.rint(rng.standard_normal((rows, columns)) * size), -63, 63).astype(np.int64)
    return k, rng.integers(0, 4, columns)


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


def test_states_after_are_those_of_the_machine() -> None:
    k, _ = draw(3, 33, 50, 1.5)
    codes, states = machine(k, np.zeros(50, np.int64))
    grid, last = trellis.states_after((codes ^ 128).view(np.int8)).astype(np.int64)
    assert np.array_equal(2 * grid + last, states)
    assert not trellis.states_after(np.zeros((0, 3), np.int8)).any()


@pytest.mark.parametrize("row", [0, 1, 70, 149])
def test_one_code_of_the_wrong_grid_is_noticed(row: int) -> None:
    codes, _ = machine(*draw(4, 150, 20, 3.0))
    codes[row, 7] = 133 if codes[row, 7] % 2 == 0 else 134
    assert trellis.encode(codes.reshape(-1), 20) is None or row == 149  # nothing follows the last row


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
    k, start = draw(6, 3000, 576, 1.4)
    codes, _ = machine(k, start * 0)
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
