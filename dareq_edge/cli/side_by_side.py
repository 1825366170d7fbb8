"""The same prompt and the same random numbers, given to every model of a chain or of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dareq_edge.reporting.records import Sample, Samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dareq_runtime.scorer import Scorer

TOKENS = 32
TEMPERATURE, TOP_K, SEED = 0.8, 40, 0


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What every model continues, and for how long.

    Attributes:
        text: As given.
        ids: int64 [T], T >= 1.
        folder: Holds the tokenizer.
        count: New tokens, at most; >= 1.
        stop_ids: Ids that end the text.
    """

    text: str
    ids: NDArray[np.int64]
    folder: Path
    count: int
    stop_ids: frozenset[int]

    @classmethod
    def read(
        cls, text: str, folder: Path, context_length: int, vocab_size: int, stop_ids: frozenset[int] = frozenset()
    ) -> Self | None:
        """Tokens of a text.

        Args:
            text: Empty for none.
            folder: Holds the tokenizer.
            context_length: Of the shortest model.
            vocab_size: Ids that the models know.
            stop_ids: Ids that end the continuation.

        Returns:
            ``None`` without a text, a tokenizer, or room for a token.
        """
        import numpy as np

        from dareq_runtime.tokenizer import encode, read_tokenizer

        tokenizer = read_tokenizer(folder) if text else None
        if tokenizer is None:
            return None
        ids = np.asarray(encode(tokenizer, text).ids, dtype=np.int64)
        count = min(TOKENS, context_length - len(ids))
        if count < 1 or not len(ids) or max(ids) >= vocab_size:
            return None
        return cls(text, ids, folder, count, stop_ids)

    @property
    def record(self) -> list[object]:
        """Everything that decides a continuation, as plain values."""
        return [self.ids.tolist(), self.count, sorted(self.stop_ids), TEMPERATURE, TOP_K, SEED]

    def continued(self, scorer: Scorer) -> list[int]:
        """New tokens; the whole text is read again for each, which for so few costs little."""
        import numpy as np

        from dareq_runtime.sampling import Sampling

        sampling = Sampling(TEMPERATURE, TOP_K, seed=SEED)
        stream = sampling.streams([self.ids])[0]
        new: list[int] = []
        while len(new) < self.count and not (new and new[-1] in self.stop_ids):
            text = np.concatenate([self.ids, np.asarray(new, dtype=np.int64)])
            logits = np.concatenate(list(scorer.chunk_logits(text)))[-1]
            new.append(sampling.choose(logits, stream))
        return new

    def beside(self, continuations: Mapping[str, Sequence[int]]) -> Samples:
        """Continuations by model, as text; the first is what others are compared with."""
        from dareq_runtime.tokenizer import decode, read_tokenizer

        tokenizer = read_tokenizer(self.folder)
        assert tokenizer is not None  # or there would be no prompt
        first = next(iter(continuations.values()))
        rows = [
            Sample(label, tuple(new), decode(tokenizer, list(new)), _common(first, new))
            for label, new in continuations.items()
        ]
        how = (
            f"The same prompt and random numbers for every model (temperature {TEMPERATURE:g}, the {TOP_K} likeliest "
            f"tokens, seed {SEED}, at most {self.count} new tokens), so that what differs is the models' doing."
        )
        return Samples(self.text, how, tuple(rows))


def side_by_side(
    scorers: Sequence[Scorer], folder: Path, prompt: str, stop_ids: frozenset[int] = frozenset()
) -> Samples | None:
    """Continue a prompt with every model.

    Args:
        scorers: The first is what others are compared with; their labels differ.
        folder: Holds the tokenizer.
        prompt: Its start; empty for none.
        stop_ids: Ids that end the text.

    Returns:
        ``None`` without a prompt, a tokenizer, or room for a token.
    """
    context_length = min(s.context_length for s in scorers)
    read = Prompt.read(prompt, folder, context_length, scorers[0].vocab_size, stop_ids)
    return None if read is None else read.beside({s.label: read.continued(s) for s in scorers})


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Leading tokens that both have."""
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count
