"""A folder that dareq-edge exported, in this project's runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dareq_runtime.generation import Apart
from dareq_runtime.loading import load
from dareq_runtime.model import OnnxModel


class Ours:
    """See ``contestant.Contestant``."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder = folder
        self._threads = threads
        self._batch: Apart | None = None
        self._token = 0

    def load(self) -> None:
        """As ``dareq_runtime.load`` does by default, comparing hashes included."""
        self._model: OnnxModel = load(self._folder, threads=self._threads)

    @property
    def vocab_size(self) -> int:
        """See the protocol."""
        return self._model.vocab_size

    def read(self, ids: NDArray[np.int64], new: int) -> int:
        """See the protocol."""
        self._batch = None  # the last cache goes before the next one comes
        self._batch = self._model.begin(ids, new)
        self._token = int(self._batch.first[0].argmax())
        return self._token

    def step(self) -> int:
        """See the protocol."""
        assert self._batch is not None
        self._token = int(self._batch.step({0: self._token})[0].argmax())
        return self._token
