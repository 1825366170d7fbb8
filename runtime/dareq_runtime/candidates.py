"""Named protocols that may have given the paper's perplexities of the float models: 77.29 and 61.94.

GPTQ's protocol gives 27.65 and 22.00 for the same models. The logarithms of the ratios, 1.028 and 1.035, are alike,
which is what short contexts do, not padding and not a fault of one model. So the candidates are short texts:

    lines-512-…    each non-empty row alone, cut after 512 tokens
        …-mean     mean over rows of each row's mean loss;  …-tokens: mean over predicted tokens
        …-strip    white space around a row is cut off;     …-keep: it is kept, and the line end with it
        …-bos      the tokenizer's leading special token;   …-nobos: without it
        …-first100 the first 100 rows only
    chunks-64      the whole text in windows of 64 tokens, side by side; chunks-128, chunks-2048 (GPTQ's own)

The right one gives both figures to two decimals. Every row is scored once; the names are ways to add its losses up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from dareq_edge.errors import DataError
from dareq_edge.progress import Progress, silent
from dareq_runtime.scorer import Scorer
from dareq_runtime.scoring import token_nll

TRUNCATION = 512
FIRST = (100, 200, 500, 1000)
CHUNKS = (64, 128, 2048)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one protocol gives.

    Attributes:
        name: See the module's docstring.
        ppl: Perplexity.
        texts: Rows or windows that were scored.
        tokens: Predicted tokens.
    """

    name: str
    ppl: float
    texts: int
    tokens: int


def candidates(
    scorer: Scorer, rows: Sequence[str], tokenizer: Tokenizer, *, progress: Progress = silent
) -> list[Candidate]:
    """Score a text under every candidate.

    Args:
        scorer: The float model.
        rows: The text as its data set has it, line ends included; blank rows are "" (``tokens.split_rows``).
        tokenizer: The model's.
        progress: Called per row or window.

    Raises:
        DataError: Nothing in it can be predicted.
    """
    found: list[Candidate] = []
    full = [row for row in rows if row.strip()]
    cut = min(TRUNCATION, scorer.context_length)
    for spacing, texts in (("strip", [row.strip() for row in full]), ("keep", full)):
        ids = [_ids(tokenizer, text) for text in texts]
        bare = [_ids(tokenizer, text, special=False) for text in texts]
        kinds = {"bos": ids, "nobos": bare}
        if all(len(a) == len(b) for a, b in zip(ids, bare, strict=True)):  # this tokenizer has no leading token
            del kinds["bos"]
        for start, sequences in kinds.items():
            stage = f"rows, {spacing}, {start}"
            losses = _losses(scorer, [s[:cut] for s in sequences], stage, progress)
            found += _of_rows(losses, f"{spacing}-{start}")
    whole = _ids(tokenizer, "\n\n".join(rows))
    for size in (c for c in CHUNKS if c <= scorer.context_length):
        windows = [whole[s : s + size] for s in range(0, len(whole) - size + 1, size)]
        if windows:
            losses = _losses(scorer, windows, f"chunks of {size}", progress)
            found.append(_candidate(f"chunks-{size}", losses, by_row=False))
    if not found:
        raise DataError("the text has no row of 2 tokens or more; nothing can be predicted, give a longer text")
    return found


def _ids(tokenizer: Tokenizer, text: str, *, special: bool = True) -> NDArray[np.int64]:
    return np.asarray(tokenizer.encode(text, add_special_tokens=special).ids, np.int64)


def _of_rows(losses: Sequence[NDArray[np.float64]], kind: str) -> Iterator[Candidate]:
    """Every way of adding up the losses of one kind of rows."""
    for count in [n for n in FIRST if n < len(losses)] + [len(losses)]:
        which = "all" if count == len(losses) else f"first{count}"
        part = [x for x in losses[:count] if len(x)]
        if part:
            yield _candidate(f"lines-{TRUNCATION}-mean-{kind}-{which}", part, by_row=True)
            yield _candidate(f"lines-{TRUNCATION}-tokens-{kind}-{which}", part, by_row=False)


def _candidate(name: str, losses: Sequence[NDArray[np.float64]], *, by_row: bool) -> Candidate:
    tokens = sum(len(x) for x in losses)
    mean = np.mean([x.mean() for x in losses]) if by_row else sum(x.sum() for x in losses) / tokens
    return Candidate(name, float(np.exp(mean)), len(losses), tokens)


def _losses(
    scorer: Scorer, sequences: Sequence[NDArray[np.int64]], stage: str, progress: Progress
) -> list[NDArray[np.float64]]:
    """Loss of every predicted token, float64 [T - 1] per sequence; empty where there is nothing to predict."""
    found = []
    for done, ids in enumerate(sequences):
        parts, row = [], 0
        for logits in scorer.chunk_logits(ids) if len(ids) > 1 else ():
            targets = ids[row + 1 : row + 1 + len(logits)]
            parts.append(token_nll(logits[: len(targets)], targets))
            row += len(logits)
        found.append(np.concatenate(parts) if parts else np.empty(0))
        progress(stage, done + 1, len(sequences))
    return found
