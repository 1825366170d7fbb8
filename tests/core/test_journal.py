"""The journal of block-wise recipes: what comes back, what counts as finished, and what a full disk says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dareq_edge import kept
from dareq_edge.blockwise.journal import Journal, State, sweep
from dareq_edge.errors import ArtifactError
from dareq_edge.progress import silent
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Change
from dareq_edge.spec import QuantSpec


def changes(block: int) -> list[Change]:
    codes = np.full((3, 4), block, dtype=np.uint8)
    matrix = QuantizedTensor(codes, np.full((3, 1), 0.5, np.float32), QuantSpec(3, method="gptq"))
    norm = torch.full((4,), block, dtype=torch.bfloat16)
    return [(f"{block}.norm.weight", norm), (f"{block}.fc.weight", matrix), (f"{block}.a.weight", norm.float())]


def same(a: list[Change], b: list[Change]) -> bool:
    if [t for t, _ in a] != [t for t, _ in b]:
        return False
    for (_, x), (_, y) in zip(a, b, strict=True):
        if isinstance(x, QuantizedTensor):
            assert isinstance(y, QuantizedTensor)
            equal = np.array_equal(x.codes, y.codes) and np.array_equal(x.scales, y.scales) and x.spec == y.spec
        else:
            equal = torch.is_tensor(y) and x.dtype == y.dtype and torch.equal(x, y)
        if not equal:
            return False
    return True


def step(index: int, state: State) -> list[Change]:
    state["hidden"] += 1
    return changes(index)


def start() -> State:
    return {"hidden": torch.zeros(2)}


def test_everything_comes_back(tmp_path: Path) -> None:
    first = Journal(tmp_path / "work", "a")
    assert not (tmp_path / "work").exists()
    first.commit(changes(0), {"hidden": torch.arange(3.0), "other": torch.ones(1)})
    first.commit(changes(1), {"hidden": torch.arange(4.0), "other": torch.ones(2)})
    again = Journal(tmp_path / "work", "a")
    assert again.done == 2
    assert same(again.changes(0), changes(0))
    assert same(again.changes(1), changes(1))
    assert again.state()["hidden"].tolist() == [0, 1, 2, 3]
    assert again.state()["other"].tolist() == [1, 1]
    assert [p.name for p in (tmp_path / "work").glob("state-*")] == ["state-1.safetensors"]


def test_other_settings_remove_the_blocks_and_nothing_else(tmp_path: Path) -> None:
    Journal(tmp_path, "a").commit(changes(0), start())
    (tmp_path / "text.npy").write_bytes(b"kept")
    assert Journal(tmp_path, "b").done == 0
    assert [p.name for p in tmp_path.glob("*.*")] == ["text.npy"]


def test_a_block_without_its_state_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = kept.save_file

    def fails_on_the_second_state(tensors: State, path: Path, metadata: dict[str, str]) -> None:
        if path.name == "state-1.partial":
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        save(tensors, path, metadata)

    monkeypatch.setattr(kept, "save_file", fails_on_the_second_state)
    with pytest.raises(ArtifactError, match=r"cannot keep the work so far in .*No space left"):
        list(sweep(3, Journal(tmp_path, "a"), start, step, silent))
    monkeypatch.undo()
    journal = Journal(tmp_path, "a")
    assert journal.done == 1
    got = list(sweep(3, journal, start, step, silent))
    assert same(got, [change for i in range(3) for change in changes(i)])
    assert journal.state()["hidden"].tolist() == [3, 3]
    assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    for name in ("block-0.safetensors", "state-0.safetensors"):
        Journal(tmp_path, name).commit(changes(0), start())
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ArtifactError, match=rf"{name} cannot be read .* remove "):
            list(sweep(2, Journal(tmp_path, name), start, step, silent))
