"""The same prompt and the same random numbers, given to every model of a chain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.reporting.records import Sample, Samples

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dareq_runtime.sampling import Sampling
    from dareq_runtime.scorer import Scorer

PROMPT = "The people of the United States"
TOKENS = 32
TEMPERATURE, TOP_K, SEED = 0.8, 40, 0


def side_by_side(
    scorers: Sequence[Scorer], folder: Path, prompt: str, stop_ids: frozenset[int] = frozenset()
) -> Samples | None:
    """Continue a prompt with every model.

    Args:
        scorers: The first is what others are compared with.
        folder: Holds the tokenizer.
        prompt: Its start; empty for none.
        stop_ids: Ids that end the text.

    Returns:
        ``None`` without a prompt, a tokenizer, or room for a token.
    """
    import numpy as np

    from dareq_runtime.sampling import Sampling
    from dareq_runtime.tokenizer import decode, read_tokenizer

    tokenizer = read_tokenizer(folder) if prompt else None
    if tokenizer is None:
        return None
    ids = np.asarray(tokenizer.encode(prompt).ids, dtype=np.int64)
    count = min(TOKENS, min(s.context_length for s in scorers) - len(ids))
    if count < 1 or not len(ids) or max(ids) >= scorers[0].vocab_size:
        return None
    sampling = Sampling(TEMPERATURE, TOP_K, seed=SEED)
    rows: list[Sample] = []
    for scorer in scorers:
        new = _continued(scorer, ids, count, sampling, stop_ids)
        same = _common(rows[0].ids, new) if rows else len(new)
        rows.append(Sample(scorer.label, tuple(new), decode(tokenizer, new), same))
    how = (
        f"The same prompt and random numbers for every model (temperature {TEMPERATURE:g}, the {TOP_K} likeliest "
        f"tokens, seed {SEED}, at most {count} new tokens), so that what differs is the models' doing."
    )
    return Samples(prompt, how, tuple(rows))


def _continued(
    scorer: Scorer, ids: NDArray[np.int64], count: int, sampling: Sampling, stop_ids: frozenset[int]
) -> list[int]:
    """New tokens; the whole text is read again for each, which for so few costs little."""
    import numpy as np

    stream = sampling.streams([ids])[0]
    new: list[int] = []
    while len(new) < count and not (new and new[-1] in stop_ids):
        text = np.concatenate([ids, np.asarray(new, dtype=np.int64)])
        logits = np.concatenate(list(scorer.chunk_logits(text)))[-1]
        new.append(sampling.choose(logits, stream))
    return new


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """Leading tokens that both have."""
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count
