"""How the next token is chosen from a row of logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import SpecError


@dataclass(frozen=True, slots=True)
class Sampling:
    """Greedy at temperature 0; else softmax(logits / temperature) cut to ``top_k``, then to ``top_p``.

    Attributes:
        temperature: >= 0.
        top_k: Keep this many of the likeliest tokens; 0 keeps all.
        top_p: Keep the smallest set of likeliest tokens whose probabilities sum to at least this; in (0, 1].
        seed: >= 0; the same seed and prompt give the same tokens.

    Raises:
        SpecError: A value is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.temperature < float("inf")):
            raise SpecError(f"temperature is {self.temperature}; use 0 (greedy) or more")
        if self.top_k < 0:
            raise SpecError(f"top_k is {self.top_k}; use 1 or more, or 0 to keep all tokens")
        if not 0 < self.top_p <= 1:
            raise SpecError(f"top_p is {self.top_p}; use more than 0 and at most 1")
        if self.seed < 0:
            raise SpecError(f"seed is {self.seed}; use 0 or more")

    def streams(self, prompts: Sequence[NDArray[np.int64]]) -> list[np.random.Generator]:
        """A random stream per prompt, from the seed, the prompt, and how often it occurred before.

        A row therefore draws the same numbers in a batch as alone, and copies of one prompt differ.
        """
        seen: dict[bytes, int] = {}
        streams = []
        for ids in prompts:
            key = ids.tobytes()
            copy = seen.get(key, 0)
            seen[key] = copy + 1
            streams.append(np.random.default_rng([self.seed, copy, *ids.tolist()]))
        return streams

    def choose(self, logits: NDArray[np.float32], stream: np.random.Generator) -> int:
        """The next token of one row.

        Args:
            logits: float32 [V].
            stream: The row's random numbers; untouched when greedy.
        """
        if self.temperature == 0:
            return int(logits.argmax())
        order, probabilities = self._kept(logits)
        return int(
            order[np.searchsorted(np.cumsum(probabilities), stream.random(), side="right").clip(max=len(order) - 1)]
        )

    def _kept(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Ids that may be chosen, likeliest first, and their probabilities, float64, sum 1."""
        x = logits.astype(np.float64) / self.temperature
        order = np.argsort(-x, kind="stable")[: self.top_k or None]
        p = np.exp(x[order] - x[order[0]])
        p /= p.sum()
        keep = int(np.searchsorted(np.cumsum(p), self.top_p)) + 1
        p = p[:keep]
        return order[:keep], p / p.sum()
