from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dareq_edge.errors import DataError, SpecError
from dareq_runtime import OnnxModel
from dareq_runtime.sampling import Sampling
from tiny_decoder import TinyDecoder

PROMPTS = [np.random.default_rng(i).integers(4, 96, n) for i, n in enumerate((5, 17, 1, 9))]


def greedy(tiny: TinyDecoder, prompt: NDArray[np.int64], new: int) -> list[int]:
    ids = list(prompt)
    for _ in range(new):
        ids.append(int(tiny.logits(np.array(ids))[-1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("chunk", [3, 128])
def test_greedy_equals_numpy(fp32: OnnxModel, tiny: TinyDecoder, chunk: int) -> None:
    fp32.chunk = chunk
    for prompt in PROMPTS:
        got = fp32.generate(prompt, max_new_tokens=20, stop_ids=[])
        assert list(got.ids) == greedy(tiny, prompt, 20)
        assert got.stopped == "length"
        assert got.text is None
    assert len(set(greedy(tiny, PROMPTS[0], 20))) > 10, "a model that repeats itself would hide errors"


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, seed=3), Sampling(0.7, top_k=9, top_p=0.9, seed=4)])
def test_batch_equals_one_by_one(fp32: OnnxModel, int8: OnnxModel, sampling: Sampling) -> None:
    for model in (fp32, int8):
        model.chunk = 4
        batch = model.generate_batch(PROMPTS, max_new_tokens=25, sampling=sampling)
        alone = [model.generate_batch([p], max_new_tokens=25, sampling=sampling)[0] for p in PROMPTS]
        assert batch == alone
    together = fp32.generate_batch(PROMPTS, max_new_tokens=25, sampling=sampling, together=True)
    assert together == fp32.generate_batch(PROMPTS, max_new_tokens=25, sampling=sampling)


@pytest.mark.parametrize("together", [False, True])
def test_rows_stop_on_their_own(fp32: OnnxModel, together: bool) -> None:
    free = fp32.generate_batch(PROMPTS, max_new_tokens=20, stop_ids=[])
    stop = free[1].ids[6]
    seen: list[tuple[int, int]] = []
    got = fp32.generate_batch(
        PROMPTS,
        max_new_tokens=20,
        stop_ids=[stop],
        on_token=lambda row, token, _: seen.append((row, token)),
        together=together,
    )
    for row, (whole, cut) in enumerate(zip(free, got, strict=True)):
        end = whole.ids.index(stop) + 1 if stop in whole.ids else 20
        assert cut.ids == whole.ids[:end]
        assert cut.stopped == ("stop" if stop in whole.ids else "length")
        assert [t for r, t in seen if r == row] == list(cut.ids)
    assert len({len(g.ids) for g in got}) > 1


def test_the_model_s_own_stop_id_is_the_default(int8: OnnxModel) -> None:
    assert int8.folder.stop_ids == {2}


def test_sampling_is_reproducible_and_seeded(int8: OnnxModel) -> None:
    options = {"max_new_tokens": 20, "temperature": 1.5, "stop_ids": []}
    a, b = (int8.generate(PROMPTS[0], seed=1, **options) for _ in range(2))
    assert a == b
    assert a != int8.generate(PROMPTS[0], seed=2, **options)


def test_streams_depend_on_seed_prompt_and_copy_only() -> None:
    a, b = np.array([5, 6]), np.array([7])
    draws = [s.random() for s in Sampling(seed=1).streams([a, b, a])]
    assert len(set(draws)) == 3
    assert [s.random() for s in Sampling(seed=1).streams([b, a, a])] == [draws[1], draws[0], draws[2]]
    assert Sampling(seed=2).streams([a])[0].random() != draws[0]


def test_copies_of_a_prompt_differ(int8: OnnxModel) -> None:
    a, b = int8.generate_batch([PROMPTS[0]] * 2, max_new_tokens=20, sampling=Sampling(1.5), stop_ids=[])
    assert a != b
    assert a == int8.generate_batch([PROMPTS[0]], max_new_tokens=20, sampling=Sampling(1.5), stop_ids=[])[0]


def test_sampling_frequencies() -> None:
    logits = np.log(np.array([0.4, 0.1, 0.3, 0.2], dtype=np.float32))
    stream = np.random.default_rng(0)
    draws = [Sampling(1.0).choose(logits, stream) for _ in range(4000)]
    assert np.abs(np.bincount(draws, minlength=4) / 4000 - [0.4, 0.1, 0.3, 0.2]).max() < 0.03


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(1.0, top_k=2), {0, 2}),
        (Sampling(1.0, top_p=0.65), {0, 2}),
        (Sampling(1.0, top_p=0.71), {0, 2, 3}),
        (Sampling(1.0, top_p=1e-9), {0}),
        (Sampling(1.0, top_k=3, top_p=0.75), {0, 2}),
        (Sampling(0.01), {0}),
        (Sampling(1.0, top_k=99), {0, 1, 2, 3}),
    ],
)
def test_what_may_be_chosen(sampling: Sampling, kept: set[int]) -> None:
    logits = np.log(np.array([0.4, 0.1, 0.3, 0.2], dtype=np.float32))
    stream = np.random.default_rng(0)
    assert {sampling.choose(logits, stream) for _ in range(500)} == kept


@pytest.mark.parametrize("values", [{"temperature": -1}, {"temperature": float("nan")}, {"top_k": -1}, {"seed": -1}])
def test_bad_sampling(values: dict[str, float]) -> None:
    with pytest.raises(SpecError, match=next(iter(values))):
        Sampling(**values)
    with pytest.raises(SpecError, match="top_p"):
        Sampling(top_p=0)


def test_context_overflow(int8: OnnxModel) -> None:
    prompt = list(range(4, 44))
    assert len(int8.generate(prompt, max_new_tokens=8, stop_ids=[]).ids) == 8
    with pytest.raises(SpecError, match="use max_new_tokens <= 8"):
        int8.generate(prompt, max_new_tokens=9)
    with pytest.raises(DataError, match=r"48 tokens .* context is 48"):
        int8.generate([5] * 48)


def test_bad_prompts(int8: OnnxModel) -> None:
    with pytest.raises(DataError, match="has no tokenizer"):
        int8.generate("text")
    with pytest.raises(DataError, match="no tokens"):
        int8.generate([])
    with pytest.raises(DataError, match=r"outside 0\.\.95"):
        int8.generate([96])
    with pytest.raises(DataError, match="flat list"):
        int8.generate(np.array([0.5]))
    with pytest.raises(DataError, match="no prompt"):
        int8.generate_batch([])
    with pytest.raises(SpecError, match="max_new_tokens"):
        int8.generate([5], max_new_tokens=0)
