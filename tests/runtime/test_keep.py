"""Logits of the last position only, and steps over buffers that are bound once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import tolerances
from dareq_runtime import OnnxModel
from dareq_runtime.decoder import Cache, Lane, extend
from dareq_runtime.generation import prefill
from tiny_decoder import TinyDecoder


def draw(n: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(4, 96, n)


def far_apart(x: NDArray, reference: NDArray) -> float:
    return float(np.abs(x - reference).max() / np.abs(reference).max())


def test_whether_a_graph_can_is_known(either: OnnxModel, request: pytest.FixtureRequest) -> None:
    assert either.graph.keeps is ("keeps" in request.node.callspec.id)
    assert either.chunk == (256 if either.graph.keeps else 128)


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_prompts_and_windows_equal_numpy(either: OnnxModel, tiny: TinyDecoder, chunk: int) -> None:
    ids, expected = draw(40), tiny.logits(draw(40))
    last = prefill(Cache(either.graph, 1, 40).lane(0, 1), ids, 0, chunk)
    assert far_apart(last, expected[-1]) < tolerances.RUNTIME_FP32
    assert far_apart(np.concatenate(list(either.chunk_logits(ids, chunk))), expected) < tolerances.RUNTIME_FP32


def test_one_lane_can_do_both(either: OnnxModel, tiny: TinyDecoder) -> None:
    ids, expected = draw(30), tiny.logits(draw(30))
    lane = Cache(either.graph, 1, 30).lane(0, 1)
    pieces = [extend(lane, ids[s : s + 10], done=s, last_only=s == 10) for s in (0, 10, 20)]
    assert [p.shape for p in pieces] == [(10, 96), (1, 96), (10, 96)]
    for piece, rows in zip(pieces, (expected[:10], expected[19:20], expected[20:]), strict=True):
        assert far_apart(piece, rows) < tolerances.RUNTIME_FP32


def test_a_prompt_asks_for_one_row_of_logits_per_chunk(fp32: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, run = [], Lane.run

    def spy(lane: Lane, *args: NDArray[np.int64], last_only: bool = False) -> NDArray[np.float32]:
        logits = run(lane, *args, last_only=last_only)
        rows.append((logits.shape[1], int(lane._keep)))
        return logits

    monkeypatch.setattr(Lane, "run", spy)
    prefill(Cache(fp32.graph, 1, 20).lane(0, 1), draw(20), 0, 8)
    assert rows == [(1, 1)] * 3


def test_steps_equal_numpy(either: OnnxModel, tiny: TinyDecoder) -> None:
    ids, expected = draw(20), tiny.logits(draw(20))
    step = Cache(either.graph, 1, 20).stepper()
    for i, token in enumerate(ids):
        assert far_apart(step([token])[0], expected[i]) < tolerances.RUNTIME_FP32


def test_steps_after_passes_of_another_kind(either: OnnxModel, tiny: TinyDecoder) -> None:
    ids, expected = draw(20), tiny.logits(draw(20))
    cache = Cache(either.graph, 1, 20)
    lane, step = cache.lane(0, 1), cache.stepper()
    extend(lane, ids[:6], done=0)
    step(ids[6:7], total=6)
    extend(lane, np.array([5, 5, 5]), done=7)  # given up
    assert far_apart(step(ids[7:8], total=7)[0], expected[7]) < tolerances.RUNTIME_FP32
    assert far_apart(step(ids[8:9])[0], expected[8]) < tolerances.RUNTIME_FP32


def test_padded_rows_step_together(either: OnnxModel, tiny: TinyDecoder) -> None:
    rows, pads, new = [draw(9, 1), draw(4, 2), draw(1, 3)], [0, 5, 8], [draw(3, i) for i in (4, 5, 6)]
    cache = Cache(either.graph, 3, 12)
    for i, row in enumerate(rows):
        prefill(cache.lane(i, i + 1), row, pads[i], 128)
    step = cache.stepper(total=9, pads=pads)
    for n in range(3):
        logits = step([x[n] for x in new])
        for i, row in enumerate(rows):
            expected = tiny.logits(np.concatenate([row, new[i][: n + 1]]))[-1]
            assert far_apart(logits[i], expected) < tolerances.RUNTIME_FP32


def test_a_padded_row_alone(either: OnnxModel, tiny: TinyDecoder) -> None:
    ids, cache = draw(6), Cache(either.graph, 1, 12)
    prefill(cache.lane(0, 1), ids[:5], 4, 128)
    assert far_apart(cache.stepper(total=9, pads=[4])(ids[5:])[0], tiny.logits(ids)[-1]) < tolerances.RUNTIME_FP32


def test_who_owns_logits(fp32: OnnxModel) -> None:
    """A step's are overwritten by the next, a pass's and a prompt's are the caller's."""
    cache = Cache(fp32.graph, 1, 30)
    kept = [extend(cache.lane(0, 1), draw(5), done=0), prefill(cache.lane(0, 1), draw(5), 0, 2)]
    copies = [x.copy() for x in kept]
    step = cache.stepper(total=5)
    first = step([5])
    before = first.copy()
    second = step([6])
    assert np.shares_memory(first, second)
    assert not np.array_equal(first, before)
    assert all(np.array_equal(a, b) for a, b in zip(kept, copies, strict=True))
