from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dareq_runtime import OnnxModel, load
from tiny_decoder import TinyDecoder


@pytest.fixture(scope="session")
def tiny() -> TinyDecoder:
    return TinyDecoder()


@pytest.fixture(scope="session")
def tiny_folder(tiny: TinyDecoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("runtime") / "tiny")


@pytest.fixture(scope="session")
def fp32(tiny_folder: Path) -> OnnxModel:
    return load(tiny_folder, compute="fp32", threads=1)


@pytest.fixture(scope="session")
def int8(tiny_folder: Path) -> OnnxModel:
    return load(tiny_folder, threads=1)


@pytest.fixture(scope="session", params=[True, False], ids=["keeps", "older"])
def either(request: pytest.FixtureRequest, tiny: TinyDecoder, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    """The tiny decoder in fp32 compute, with and without the input num_logits_to_keep."""
    folder = TinyDecoder(tiny.shape, keeps=request.param).write(tmp_path_factory.mktemp("runtime") / "either")
    return load(folder, compute="fp32", threads=1)


@dataclass
class TableScorer:
    """A scorer whose logits for a position depend on the token there alone: row ``ids[i]`` of a table [V, V]."""

    table: NDArray[np.float32]
    label: str = "table"
    context_length: int = 16

    @property
    def vocab_size(self) -> int:
        return self.table.shape[1]

    def chunk_logits(self, ids: NDArray[np.int64], chunk: int = 128) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(ids), chunk):
            yield self.table[ids[start : start + chunk]]


@pytest.fixture
def table_scorer() -> Callable[..., TableScorer]:
    return TableScorer
