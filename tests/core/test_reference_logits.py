"""Losses against a float model whose log-probabilities wait on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dareq_edge.comparison import logits
from dareq_edge.comparison.logits import Reference, record_reference, score_against
from dareq_edge.errors import ArtifactError, DataError
from tolerances import HALF_KL, NLL_FLOAT64

V = 50
WINDOWS = [np.random.default_rng(i).integers(0, V, 12) for i in range(3)]


@dataclass(frozen=True)
class Table:
    """A model whose logits are a fixed function of token and position."""

    seed: int
    scale: float = 3.0
    broken: bool = False
    vocab_size: int = V
    context_length: int = 12
    label: str = "table"

    def logits(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = [np.random.default_rng([self.seed, i, int(t)]).normal(0, self.scale, V) for i, t in enumerate(ids)]
        found = np.stack(rows).astype(np.float32)
        return np.where(found > 0, np.float32(np.nan), found) if self.broken else found

    def chunk_logits(self, ids: NDArray[np.int64], chunk: int = 128) -> Iterator[NDArray[np.float32]]:
        found = self.logits(ids)
        for start in range(0, len(ids), chunk):
            yield found[start : start + chunk]


def exact(model: Table) -> list[NDArray[np.float64]]:
    """float64 [T - 1, V] log-probabilities per window."""
    found = [model.logits(ids)[:-1].astype(np.float64) for ids in WINDOWS]
    return [x - np.log(np.exp(x).sum(1, keepdims=True)) for x in found]


def record(model: Table, folder: Path) -> Reference:
    return record_reference(model, WINDOWS, folder / "x.logits")  # type: ignore[arg-type]


@pytest.mark.parametrize(("piece", "block"), [(2**25, 2**22), (V * 16, V * 5), (V, V)])
def test_against_numpy_however_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, block: int
) -> None:
    monkeypatch.setattr(logits, "_PIECE", piece)
    monkeypatch.setattr(logits, "_BLOCK", block)
    one, other = Table(0), Table(1)
    reference = record(one, tmp_path)
    found = score_against(reference, other, WINDOWS)  # type: ignore[arg-type]
    for i, (ids, p, q) in enumerate(zip(WINDOWS, exact(one), exact(other), strict=True)):
        rows, targets = np.arange(len(ids) - 1), ids[1:]
        assert np.abs(reference.nll[i] + p[rows, targets]).max() < NLL_FLOAT64
        assert np.abs(found.nll[i] + q[rows, targets]).max() < NLL_FLOAT64
        assert (found.same[i] == (p.argmax(1) == q.argmax(1))).all()
        kl = (np.exp(p) * (p - q)).sum(1)
        assert np.abs(found.kl[i] - kl).max() < HALF_KL * kl.max()


def test_the_same_model_is_at_distance_zero(tmp_path: Path) -> None:
    found = score_against(record(Table(0), tmp_path), Table(0), WINDOWS)  # type: ignore[arg-type]
    assert all((kl >= 0).all() and kl.max() < HALF_KL for kl in found.kl)
    assert all((same == 1).all() for same in found.same)


def test_impossible_tokens_are_finite(tmp_path: Path) -> None:
    far = Table(0, scale=1e5)  # log-probabilities beyond float16
    found = score_against(record(far, tmp_path), far, WINDOWS)  # type: ignore[arg-type]
    assert all(np.isfinite(kl).all() and kl.max() < HALF_KL for kl in found.kl)


def test_broken_logits_are_refused(tmp_path: Path) -> None:
    reference = record(Table(0), tmp_path)
    with pytest.raises(DataError, match="not finite"):
        score_against(reference, replace(Table(0), broken=True), WINDOWS)  # type: ignore[arg-type]


def test_a_small_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 3000}))
    with pytest.raises(ArtifactError, match=r"fewer --max-tokens"):  # 2 bytes * 50 * 33 tokens
        record(Table(0), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    reference = record(Table(0), tmp_path)
    assert reference.path.stat().st_size == 2 * V * 33
    reference.path.write_bytes(reference.path.read_bytes()[:-2])
    with pytest.raises(ArtifactError, match="shorter"):
        score_against(reference, Table(0), WINDOWS)  # type: ignore[arg-type]
