"""One session used from many threads at once: every thread gets what one thread alone would."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from dareq_runtime import OnnxModel, load
from dareq_runtime.sampling import Sampling
from fast import fast
from soak import PROMPTS
from text_models import text_export

THREADS = 8
NEW = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_export(tmp_path_factory.mktemp("threads"))


def work(model: OnnxModel, i: int) -> Any:
    """The i-th of a row of uses, all of them different: greedy, sampled, streamed, looked up, in batches, scored."""
    prompt = PROMPTS[i % len(PROMPTS)] + " and" * (i % 5)
    options: dict[str, Any] = {"max_new_tokens": NEW + i % 3, "stop_ids": []}
    match i % 6:
        case 0:
            return model.generate(prompt, **options)
        case 1:
            return model.generate(prompt, temperature=1.2, top_k=30, seed=i, **options)
        case 2:
            pieces: list[str] = []
            made = model.generate(prompt, on_token=lambda _, __, text: pieces.append(text), **options)
            assert "".join(pieces) == made.text
            return made, pieces
        case 3:
            return model.generate(prompt, lookup=True, **options)
        case 4:
            batch = [prompt, "x", "of the"]
            return model.generate_batch(batch, sampling=Sampling(1.0, seed=i), together=i % 12 == 4, **options)
        case _:
            return model.logits(model.encode(prompt)).tobytes()


def together(jobs: list[Callable[[], Any]]) -> list[Any]:
    """Every job in a thread of its own, none of which starts before all have."""
    start = Barrier(len(jobs))

    def run(job: Callable[[], Any]) -> Any:
        start.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run, jobs))


CASES = [("int8", 1, 3), ("int8", 2, 3), ("fp32", 1, 1), ("int8", 1, 60), ("int8", 2, 60), ("fp32", 2, 20)]
"""Compute, threads within an operator, uses per thread."""


@pytest.mark.parametrize(("compute", "pool", "rounds"), fast(CASES, *CASES[:3]))
def test_eight_threads_get_what_one_gets(folder: Path, compute: Any, pool: int, rounds: int) -> None:
    model = load(folder, compute=compute, threads=pool)
    alone = [work(model, i) for i in range(THREADS * rounds)]
    assert len({repr(a) for a in alone}) > THREADS * rounds // 3, "uses that are all alike would hide a mix-up"
    shared = load(
        folder, compute=compute, threads=pool
    )  # its tokenizer is not read yet: all threads ask for it at once

    def row(thread: int) -> list[Any]:
        return [work(shared, i) for i in range(thread, THREADS * rounds, THREADS)]

    rows = together([lambda t=t: row(t) for t in range(THREADS)])
    for thread, found in enumerate(rows):
        assert found == alone[thread::THREADS]


def test_two_generations_of_one_thread_do_not_mix(folder: Path) -> None:
    """One is begun before the other, and they advance in turn: the state is the generation's, not the session's."""
    model = load(folder, threads=1)
    ids = [model.encode(p) for p in PROMPTS[:2]]
    wanted = [model.generate(i, max_new_tokens=NEW, stop_ids=[]).ids for i in ids]
    runs = [model.begin(i, NEW) for i in ids]
    logits = [r.first[0] for r in runs]
    made: list[list[int]] = [[], []]
    for _ in range(NEW - 1):
        for row, run in enumerate(runs):
            made[row].append(int(np.argmax(logits[row])))
            logits[row] = run.step({0: made[row][-1]})[0]
    assert made == [list(w[:-1]) for w in wanted]
