"""Scorer: what perplexity and parity need of a model, whatever runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

CHUNK = 128
"""Positions per forward pass: large enough for the int8 kernels, small enough that 50k-word logits take 26 MB."""


@runtime_checkable
class Scorer(Protocol):
    """A causal language model that yields the logits of one window piece by piece.

    Attributes:
        label: What runs, e.g. "onnx int8 compute"; unique within a comparison.
        context_length: Longest window it accepts, in tokens.
        vocab_size: V, the width of a row of logits; ids are in [0, V).
    """

    @property
    def label(self) -> str:
        """What runs."""

    @property
    def context_length(self) -> int:
        """Longest window, tokens."""

    @property
    def vocab_size(self) -> int:
        """V."""

    def chunk_logits(self, ids: NDArray[np.int64], chunk: int = CHUNK) -> Iterator[NDArray[np.float32]]:
        """Logits of one window from a fresh start, in consecutive pieces.

        Args:
            ids: int64 [T], 1 <= T <= context_length.
            chunk: Positions per piece.

        Yields:
            float32 [t, V] with t = chunk except for the last piece; row r of the whole is what the model
            predicts for ``ids[r + 1]``. Pieces belong to the caller.
        """
        ...
