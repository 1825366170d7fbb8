from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import dareq_runtime
import tolerances
from dareq_edge.errors import SpecError
from dareq_runtime.ranges import RangeProbe, _windows, cache_ranges


def test_ranges_are_the_largest_keys_and_values_that_the_graph_gives(tiny_folder: Path) -> None:
    probe = RangeProbe(windows=2, length=7, margin=1.5)
    found = cache_ranges(tiny_folder, probe)
    model = dareq_runtime.load(tiny_folder)
    session = ort.InferenceSession(tiny_folder / "model.onnx")
    caches = [i for i in session.get_inputs() if i.name.startswith("past")]
    wanted = {i.name: np.zeros((i.shape[1], i.shape[3]), np.float32) for i in caches}
    for ids in _windows(model, probe):
        feeds = {
            "input_ids": ids[None],
            "attention_mask": np.ones((1, len(ids)), np.int64),
            "position_ids": np.arange(len(ids))[None],
        }
        empty = {i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32) for i in caches}
        names = {i.name for i in session.get_inputs()}
        made = session.run(None, {k: v for k, v in (feeds | empty).items() if k in names})
        for name, present in zip(wanted, made[1:], strict=True):
            wanted[name] = np.maximum(wanted[name], 1.5 * np.abs(present[0]).max(axis=1))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=tolerances.CACHE_RANGE)


def test_half_of_the_windows_are_written_by_the_model(tiny_folder: Path) -> None:
    model = dareq_runtime.load(tiny_folder)
    windows = list(_windows(model, RangeProbe(windows=2, length=6, seed=3)))
    assert [len(w) for w in windows] == [6, 6, 6, 6]
    again = model.generate(windows[1][:1], max_new_tokens=5, temperature=1.0, seed=3, stop_ids=[])
    assert list(again.ids) == windows[1][1:].tolist()


@pytest.mark.parametrize("wrong", [{"windows": 0}, {"length": 1}, {"margin": 0.5}])
def test_a_probe_that_measures_nothing_is_refused(wrong: dict) -> None:
    with pytest.raises(SpecError, match="cannot measure"):
        RangeProbe(**wrong)
