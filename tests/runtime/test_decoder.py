from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import tolerances
from dareq_edge.errors import DataError
from dareq_runtime import OnnxModel, Scorer
from dareq_runtime.decoder import Cache, extend
from tiny_decoder import TinyDecoder


def draw(n: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(4, 96, n)


def far_apart(x: NDArray, reference: NDArray) -> float:
    return float(np.abs(x - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("chunk", [1, 7, 16, 128])
def test_logits_equal_numpy_whatever_the_chunk(fp32: OnnxModel, tiny: TinyDecoder, chunk: int) -> None:
    ids = draw(40)
    pieces = list(fp32.chunk_logits(ids, chunk))
    assert [len(p) for p in pieces] == [min(chunk, 40 - s) for s in range(0, 40, chunk)]
    assert far_apart(np.concatenate(pieces), tiny.logits(ids)) < tolerances.RUNTIME_FP32


def test_int8_compute_differs_but_not_wildly(int8: OnnxModel, fp32: OnnxModel) -> None:
    ids = draw(40)
    gap = far_apart(int8.logits(ids), fp32.logits(ids))
    assert tolerances.RUNTIME_FP32 < gap < 0.5


def test_cache_is_written_in_place(fp32: OnnxModel) -> None:
    cache = Cache(fp32.graph, 1, 10)
    extend(cache.lane(0, 1), draw(6), done=0)
    for buffer in cache._buffers:
        assert np.abs(buffer[:, :, :6]).min(axis=(0, 1, 3)).all()
        assert not buffer[:, :, 6:].any()


def test_left_padded_batch_equals_numpy(fp32: OnnxModel, tiny: TinyDecoder) -> None:
    rows = [draw(9, 1), draw(4, 2), draw(1, 3)]
    pads = np.array([0, 5, 8])
    cache = Cache(fp32.graph, 3, 12)
    for i, row in enumerate(rows):
        last = extend(cache.lane(i, i + 1), row, done=0, pad=int(pads[i]))[-1]
        assert far_apart(last, tiny.logits(row)[-1]) < tolerances.RUNTIME_FP32
    new = draw(3, 4)
    mask = (np.arange(10) >= pads[:, None]).astype(np.int64)
    batch = cache.lane(0, 3).run(new[:, None], mask, (9 - pads)[:, None])[:, 0]
    for i, row in enumerate(rows):
        assert far_apart(batch[i], tiny.logits(np.append(row, new[i]))[-1]) < tolerances.RUNTIME_FP32


def test_padding_left_unmasked_would_be_noticed(fp32: OnnxModel, tiny: TinyDecoder) -> None:
    row = draw(4, 2)
    mask, positions = np.ones((1, 9), np.int64), np.arange(4)[None]
    wrong = Cache(fp32.graph, 1, 9).lane(0, 1).run(row[None], mask, positions)[0, -1]
    assert far_apart(wrong, tiny.logits(row)[-1]) > 100 * tolerances.RUNTIME_FP32


def test_two_windows_side_by_side_do_not_mix(fp32: OnnxModel) -> None:
    a, b = draw(20, 5), draw(20, 6)
    both = [(x, y) for x, y in zip(fp32.chunk_logits(a, 4), fp32.chunk_logits(b, 4), strict=True)]
    fp32.chunk = 4
    assert np.array_equal(np.concatenate([x for x, _ in both]), fp32.logits(a))
    assert np.array_equal(np.concatenate([y for _, y in both]), fp32.logits(b))


def test_model_is_a_scorer(int8: OnnxModel) -> None:
    assert isinstance(int8, Scorer)
    assert (int8.label, int8.context_length, int8.vocab_size) == ("onnx int8 compute", 48, 96)


@pytest.mark.parametrize("ids", [[], [96], [-1], [5] * 49, [[1, 2]]])
def test_bad_windows(int8: OnnxModel, ids: list[int]) -> None:
    with pytest.raises(DataError, match=r"0\.\.95|1 to 48"):
        int8.logits(np.array(ids, dtype=np.int64))
