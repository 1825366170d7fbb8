"""How the next token is chosen from a row of logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

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
            logits: float32 [V]; not kept.
            stream: The row's random numbers; untouched when greedy, else one is drawn.
        """
        if self.temperature == 0:
            return int(logits.argmax())
        if 0 < self.top_k < len(logits):
            ids = _largest(logits, self.top_k)
            return int(ids[self._drawn(logits[ids], stream.random())])
        return self._drawn(logits, stream.random())

    def _drawn(self, logits: NDArray[np.float32], u: float) -> int:
        """The token with which the kept mass, summed from the likeliest on, first exceeds its u-th part.

        Args:
            logits: float32 [n].
            u: In [0, 1).
        """
        ranks = _Ranks(logits, self.temperature)
        kept = ranks.total if self.top_p == 1 else ranks.reaching(self.top_p * ranks.total, "left")[1]
        return ranks.reaching(u * kept, "right")[0]


def _largest(logits: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Ids of the k largest logits, ascending; of equal ones the first.

    Args:
        logits: float32 [V].
        k: Below V.
    """
    least = np.partition(logits, len(logits) - k)[len(logits) - k]
    above, ties = np.flatnonzero(logits > least), np.flatnonzero(logits == least)
    return np.sort(np.concatenate([above, ties[: k - len(above)]]))


class _Ranks:
    """Probabilities in falling order without sorting them all.

    Tokens are dropped into buckets by their distance from the largest logit. Sums over whole buckets tell in which
    bucket a given mass is reached, and only that one is sorted.

        distance   0 … 1/16   1/16 … 2/16   …   the rest: too far to weigh anything, 3e-14 of the largest
        mass       0.31       0.22          …
    """

    PER_NAT = 16
    COUNT = 16 * 31 + 1
    BLOCK = 8192  # small temporaries are reused; whole rows of float64 go back to the system and fault in again

    def __init__(self, logits: NDArray[np.float32], temperature: float) -> None:
        """Take logits, float32 [n], n >= 1."""
        self._logits = logits
        self._temperature = temperature
        self._top = np.float64(logits.max()) / temperature
        self._bucket = np.empty(len(logits), np.int16)
        self._mass = np.zeros(self.COUNT)
        for start in range(0, len(logits), self.BLOCK):
            far = self._far(logits[start : start + self.BLOCK])
            bucket = np.clip(far * self.PER_NAT, 0, self.COUNT - 1).astype(np.int16)
            self._bucket[start : start + self.BLOCK] = bucket
            self._mass += np.bincount(bucket, np.exp(-far), self.COUNT)
        self._through = np.cumsum(self._mass)
        self.total = float(self._through[-1])

    def _far(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distances from the largest logit, after the temperature."""
        far: NDArray[np.float64] = self._top - logits.astype(np.float64) / self._temperature
        return far

    def reaching(self, mass: float, side: Literal["left", "right"]) -> tuple[int, float]:
        """The first token, likeliest first and equal ones by number, with which the sum reaches a mass.

        Args:
            mass: At most ``total``.
            side: "left" for a sum >= mass, "right" for a sum > mass.

        Returns:
            The token and the sum.
        """
        bucket = min(int(np.searchsorted(self._through, mass, side)), int(self._bucket.max()))
        members = np.flatnonzero(self._bucket == bucket)
        far = self._far(self._logits[members])
        order = np.argsort(far, kind="stable")
        members = members[order]
        sums = self._through[bucket] - self._mass[bucket] + np.cumsum(np.exp(-far[order]))
        found = min(int(np.searchsorted(sums, mass, side)), len(members) - 1)
        return int(members[found]), float(sums[found])
