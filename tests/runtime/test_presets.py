from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import onnxruntime as ort
import pytest

import tolerances
from dareq_edge.errors import SpecError
from dareq_edge.session_settings import SessionSettings
from dareq_runtime import OnnxModel, load, presets, threads
from dareq_runtime.presets import PRESETS, Preset, cores
from dareq_runtime.session import open_graph, session_options
from dareq_runtime.threads import candidates, measured_threads, smallest_fast


@pytest.mark.parametrize("preset", get_args(Preset))
def test_presets_change_no_token(tiny_folder: Path, int8: OnnxModel, preset: Preset) -> None:
    prompt = np.arange(4, 20)
    model = load(tiny_folder, threads=1, preset=preset)
    assert model.generate(prompt, max_new_tokens=20) == int8.generate(prompt, max_new_tokens=20)


def test_every_name_has_its_options() -> None:
    assert set(PRESETS) == set(get_args(Preset))
    with pytest.raises(SpecError, match="use latency, memory, battery, mobile"):
        load("nowhere", preset="speed")  # type: ignore[arg-type]


def test_what_the_session_is_told() -> None:
    battery, latency = session_options("int8", None, "battery"), session_options("int8", 3, "latency")
    spinning = "session.intra_op.allow_spinning"
    assert battery.get_session_config_entry(spinning) == "0"
    assert latency.get_session_config_entry(spinning) == "1"
    assert battery.intra_op_num_threads == max(1, cores() // 2)
    assert (latency.intra_op_num_threads, session_options("int8", None, "memory").intra_op_num_threads) == (3, 0)
    assert (battery.enable_cpu_mem_arena, latency.enable_cpu_mem_arena) == (False, True)


@pytest.mark.parametrize(("big", "threads"), [(6, 6), (1, 1)])
def test_the_mobile_preset_takes_the_big_cores(monkeypatch: pytest.MonkeyPatch, big: int, threads: int) -> None:
    monkeypatch.setattr(presets, "big_cores", lambda: big)
    options = session_options("int8", None, "mobile")
    assert options.intra_op_num_threads == threads
    assert session_options("int8", 3, "mobile").intra_op_num_threads == 3
    assert session_options("int8", None, "battery").intra_op_num_threads == max(1, cores() // 2)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.use_device_allocator_for_initializers") == "1"
    assert not options.enable_cpu_mem_arena


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_every_optimization_level_gives_the_same_logits(tiny_folder: Path, int8: OnnxModel, level: str) -> None:
    settings = SessionSettings(level)
    made = session_options("int8", 1, "memory", settings)
    assert made.graph_optimization_level == getattr(ort.GraphOptimizationLevel, level)
    ids = np.arange(4, 44)
    graph = open_graph(tiny_folder / "model.onnx", threads=1, settings=settings)
    found, expected = OnnxModel(int8.folder, graph, "other level", 16).logits(ids), int8.logits(ids)
    assert np.abs(found - expected).max() < tolerances.OPTIMIZATION_LEVELS * np.abs(expected).max()


def test_numbers_of_threads_to_try() -> None:
    assert list(candidates(1)) == [1]
    assert list(candidates(2)) == [1, 2]
    assert list(candidates(7)) == [1, 2, 3, 4, 6, 7]
    assert list(candidates(16)) == [1, 2, 3, 4, 6, 8, 12, 16]


def test_the_smaller_number_wins_within_the_margin() -> None:
    assert smallest_fast({1: 10.0, 2: 6.1, 3: 6.0, 4: 6.5}) == 2
    assert smallest_fast({1: 10.0, 2: 6.2, 3: 6.0}) == 3
    assert smallest_fast({1: 1.0}) == 1


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[int, float]], list[int]]:
    """Replaces graphs by their number of threads, and steps by given times on a clock of their own."""

    def install(times: dict[int, float]) -> list[int]:
        clock, tried = SimpleNamespace(now=0.0), list[int]()

        def cache(count: int, rows: int, length: int) -> SimpleNamespace:
            tried.append(count)

            def step(tokens: list[int]) -> None:
                clock.now += times[count]

            return SimpleNamespace(stepper=lambda: step)

        monkeypatch.setattr(threads, "Cache", cache)
        monkeypatch.setattr(threads, "time", SimpleNamespace(perf_counter=lambda: clock.now))
        return tried

    return install


def test_the_fastest_is_taken(clocked: Callable[[dict[int, float]], list[int]]) -> None:
    tried = clocked({1: 0.02, 2: 0.012, 3: 0.0119, 4: 0.03})
    assert measured_threads(lambda n: n, 4) == 2  # type: ignore[arg-type, return-value]
    assert tried == [1, 2, 3, 4]


def test_a_slow_model_is_not_tried_for_long(clocked: Callable[[dict[int, float]], list[int]]) -> None:
    tried = clocked(dict.fromkeys(range(1, 9), 2.0))
    assert measured_threads(lambda n: n, 8) == 1  # type: ignore[arg-type, return-value]
    assert tried == [1]


def test_threads_by_measurement(tiny_folder: Path, int8: OnnxModel) -> None:
    model = load(tiny_folder, threads="measured")
    assert 1 <= model.threads <= cores()
    assert np.array_equal(model.logits([5, 6, 7]), int8.logits([5, 6, 7]))
    with pytest.raises(SpecError, match="a number, 'measured'"):
        load(tiny_folder, threads="all")  # type: ignore[arg-type]
