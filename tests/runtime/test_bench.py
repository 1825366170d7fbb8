"""The arithmetic of a benchmark: what is asked of a contestant, in which order, and what is made of the figures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dareq_edge.errors import SpecError
from dareq_runtime.bench.measure import REPEATS, measure
from dareq_runtime.bench.rounds import Runners, run_bench
from dareq_runtime.bench.sample import WARM_STEPS, Job, Lengths, Sample
from dareq_runtime.bench.standings import Bench, Entrant
from dareq_runtime.bench.summary import Spread, summarize

SAMPLE = Sample(0.5, 0.25, 10, 40, 80, {16: 0.125, 128: 1.0}, {16: 0.0625}, "a machine")


class Clocked:
    """A contestant on whose own clock loading takes 100, a prompt its length, and step number n takes n seconds."""

    vocab_size = 7

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[object, ...]] = []
        self._steps = 0

    def clock(self) -> float:
        return self.now

    def load(self) -> None:
        self.calls.append(("load",))
        self.now += 100

    def read(self, ids: NDArray[np.int64], new: int) -> int:
        assert ids.dtype == np.int64
        assert 0 <= ids.min() <= ids.max() < self.vocab_size
        self.calls.append(("read", len(ids), new))
        self._steps = 0
        self.now += len(ids)
        return 0

    def step(self) -> int:
        self._steps += 1
        self.calls.append(("step", self._steps))
        self.now += self._steps
        return 0


def test_what_is_asked_of_a_contestant_and_what_is_timed() -> None:
    contestant = Clocked()
    found = measure(contestant, Lengths((3, 40), (5, 9), 4), contestant.clock)
    assert (found.load, found.first_token) == (100, 40)
    assert found.prefill == {3: 3, 40: 40}
    # Steps 1 and 2 warm up; the median of 3, 4, 5, 6 counts.
    assert found.decode == {5: 4.5, 9: 4.5}
    steps = [("step", i + 1) for i in range(WARM_STEPS + 4)]
    room = WARM_STEPS + 4 + 1
    reads = [("read", 40, 1), *[("read", 3, 1)] * REPEATS, *[("read", 40, 1)] * REPEATS]
    assert contestant.calls == [("load",), *reads, ("read", 5, room), *steps, ("read", 9, room), *steps]


def test_records_survive_json() -> None:
    job = Job("a", "onnx", Path("b/c"), 3, Lengths((1, 2), (), 5))
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
    assert Sample.from_json(json.loads(json.dumps(SAMPLE.to_json()))) == SAMPLE
    unknown = replace(SAMPLE, resident_start=None, resident=None, peak=None)
    assert Sample.from_json(json.loads(json.dumps(unknown.to_json()))) == unknown
    assert set(SAMPLE.metrics()) - set(unknown.metrics()) == {"resident", "peak"}


def test_lengths_that_a_context_has_no_room_for() -> None:
    lengths = Lengths((16, 127, 128), (16, 94, 96), 32)
    fitting, notes = lengths.within(128)
    # 127 tokens and one more fill the context; a context of 94 would need 94 + 2 + 32 + 1.
    assert (fitting.prompts, fitting.contexts) == ((16, 127), (16,))
    assert notes == [
        "prompts of 128: no room for 1 token more in the context of 128",
        "contexts of 94, 96: no room for 35 tokens more in the context of 128",
    ]
    assert lengths.within(129)[0].contexts == (16, 94)
    assert lengths.within(None) == (lengths, [])


def test_medians_ranges_and_ratios_by_hand() -> None:
    base = [{"load": 1.0, "peak": 3.0}, {"load": 2.0, "peak": 3.0}, {"load": 10.0, "peak": 3.0}]
    rounds = [{"load": 2.0, "peak": 6.0}, {"load": 6.0, "peak": 3.0}, {"load": 30.0}]
    # Ratios round by round are 2, 3, 3: the third round was slow for both and does not enter.
    assert summarize(rounds, base) == {"load": Spread(6.0, 2.0, 30.0, 3.0)}
    assert summarize(base, None) == {"load": Spread(2.0, 1.0, 10.0), "peak": Spread(3.0, 3.0, 3.0)}
    assert summarize(rounds[:2], [{"peak": 1.0}] * 2)["load"] == Spread(4.0, 2.0, 6.0)


@pytest.fixture
def entrants(tiny_folder: Path) -> list[Entrant]:
    return [Entrant(label, "dareq", tiny_folder) for label in "ABC"]


def bench(entrants: list[Entrant], rounds: int, told: list[str], sizes: Iterator[float]) -> Bench:
    def job(asked: Job) -> Sample:
        told.append(asked.label)
        return replace(SAMPLE, load=float(ord(asked.label)) * len(told))

    def bandwidth(threads: int) -> float:
        told.append(f"bandwidth {threads}")
        return next(sizes)

    return run_bench(entrants, Lengths(), rounds=rounds, threads=5, runners=Runners(job, bandwidth))


def test_rounds_are_interleaved(entrants: list[Entrant]) -> None:
    told: list[str] = []
    found = bench(entrants, 3, told, iter([4e9, 8e9, 5e9]))
    assert told == ["bandwidth 5", "A", "B", "C"] * 3
    assert found.bandwidth == Spread(5e9, 4e9, 8e9)
    first, second, _ = found.standings
    # The n-th call takes n times as long: A is asked as numbers 2, 6, 10 and B as 3, 7, 11.
    assert first.metrics["load"] == Spread(65 * 6, 65 * 2, 65 * 10)
    assert second.metrics["load"].ratio == pytest.approx(66 * 7 / (65 * 6))
    assert found.floor(first) == first.read_bytes / 8e9


def test_the_record_of_a_benchmark(entrants: list[Entrant], tiny_folder: Path) -> None:
    record = json.loads(json.dumps(bench(entrants[:2], 1, [], iter([4e9])).to_json()))
    assert (record["threads"], record["rounds"], record["bandwidth"]["median"]) == (5, 1, 4e9)
    first, second = record["contestants"]
    assert (first["metrics"]["peak"]["ratio"], second["metrics"]["peak"]["ratio"]) == (None, 1.0)
    files = [tiny_folder / name for name in ("model.onnx", "model.onnx.data")]
    assert first["file_bytes"] == sum(path.stat().st_size for path in files)
    assert first["folder_bytes"] == sum(path.stat().st_size for path in tiny_folder.iterdir())
    assert Sample.from_json(first["samples"][0]) == replace(SAMPLE, load=65.0 * 2)


def test_nothing_to_measure(entrants: list[Entrant]) -> None:
    with pytest.raises(SpecError, match="rounds is 0"):
        run_bench(entrants, Lengths(), rounds=0, threads=1)
    with pytest.raises(SpecError, match="give shorter --prompts"):
        run_bench(entrants, Lengths((), ()), rounds=1, threads=1)
