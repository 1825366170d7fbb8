"""Perplexity: losses in float64, chunk by chunk, so that a [2048 x 50272] logit matrix never exists.

Standard error. Losses of neighbouring tokens are correlated, so the spread of single tokens would promise too much.
The unit is therefore the window (for ``lines``, the line); the mean is a ratio of sums over windows, and its error

    stderr = sqrt( n / (n - 1) * sum_i (S_i - m * c_i)^2 ) / sum_i c_i      S_i loss sum, c_i tokens of window i

With fewer than ``MIN_CLUSTERS`` windows each is cut into blocks of ``BLOCK`` tokens first, which is still far
longer than a typical dependence. With equal weights per window c_i = 1 and S_i is the window's mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import DataError, ParityError
from dareq_edge.progress import Progress, silent
from dareq_edge.report import ScoreReport
from dareq_runtime.environment import describe_environment
from dareq_runtime.scorer import CHUNK, Scorer
from dareq_runtime.tokens import TokenSet
from dareq_runtime.windows import Weighting, Window, WindowProtocol, describe

MIN_CLUSTERS = 10
BLOCK = 64
ROWS = 16
"""Rows of logits turned into float64 at a time: 6 MB for a vocabulary of 50,272."""


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Logarithm of the probabilities.

    Args:
        logits: float32 [t, V].

    Returns:
        float64 [t, V].
    """
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return x


def token_nll(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Negative log-likelihood of each target, nats.

    Args:
        logits: float32 [t, V].
        targets: int64 [t].

    Returns:
        float64 [t].

    Example:
        >>> token_nll(np.zeros((2, 4), np.float32), np.array([0, 3])).round(4)  # ln 4 each
        array([1.3863, 1.3863])
    """
    losses = np.empty(len(targets), dtype=np.float64)
    for start in range(0, len(targets), ROWS):
        x = logits[start : start + ROWS].astype(np.float64)
        top = x.max(axis=1)
        picked = np.take_along_axis(x, targets[start : start + ROWS, None], axis=1)[:, 0]
        x -= top[:, None]
        np.exp(x, out=x)
        losses[start : start + ROWS] = np.log(x.sum(axis=1)) + top - picked
    return losses


def predictions(
    scorers: Sequence[Scorer], window: Window, chunk: int = CHUNK
) -> Iterator[tuple[tuple[NDArray[np.float32], ...], NDArray[np.int64]]]:
    """Logits of several models for the predicted tokens of a window, piece by piece.

    Yields:
        One float32 [t, V] per scorer, and the targets, int64 [t].

    Raises:
        DataError: The models cut the window differently (a scorer breaks the protocol).
    """
    row = 0
    streams = [s.chunk_logits(window.ids, chunk) for s in scorers]
    while pieces := [piece for stream in streams for piece in islice(stream, 1)]:
        size = len(pieces[0])
        if len(pieces) != len(streams) or any(len(p) != size for p in pieces):
            raise DataError(f"models gave pieces of {[len(p) for p in pieces]} rows; expected {size} of each")
        low, high = max(window.first - 1, row), min(len(window.ids) - 1, row + size)
        if low < high:
            yield tuple(p[low - row : high - row] for p in pieces), window.ids[low + 1 : high + 1]
        del pieces  # before the models make the next ones: a piece of a 50k vocabulary takes 26 MB
        row += size


def mean_and_error(losses: Sequence[NDArray[np.float64]], weighting: Weighting) -> tuple[float, float]:
    """Mean loss and its standard error; see the module's docstring.

    Args:
        losses: float64 [c_i] per window.
        weighting: "token" or "window".

    Raises:
        DataError: Fewer than two tokens were predicted.
    """
    if sum(len(x) for x in losses) < 2:
        raise DataError("fewer than 2 tokens were predicted, which gives no standard error; use a longer text")
    if weighting == "window" and len(losses) > 1:
        sums, counts = np.array([x.mean() for x in losses]), np.ones(len(losses))
    else:
        parts = losses if len(losses) >= MIN_CLUSTERS else _blocks(losses)
        sums, counts = np.array([x.sum() for x in parts]), np.array([float(len(x)) for x in parts])
    n, total = len(sums), counts.sum()
    mean = sums.sum() / total
    error = np.sqrt(n / (n - 1) * np.square(sums - mean * counts).sum()) / total
    return float(mean), float(error)


def _blocks(losses: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Cut windows into blocks, at least two in all."""
    size = min(BLOCK, max(1, sum(len(x) for x in losses) // 2))
    return [x[s : s + size] for x in losses for s in range(0, len(x), size)]


def make_report(
    label: str,
    losses: Sequence[NDArray[np.float64]],
    windows: Sequence[Window],
    tokens: TokenSet,
    protocol: WindowProtocol,
) -> ScoreReport:
    """The record of one scored token set.

    Raises:
        ParityError: A loss is not finite.
    """
    mean, error = mean_and_error(losses, protocol.weighting)
    if not np.isfinite(mean):
        raise ParityError(f"{label} gives logits that are not finite on {tokens.source}; quantize and export again")
    return ScoreReport(
        label=label,
        protocol=describe(protocol),
        nll=mean,
        stderr_nll=error,
        tokens=sum(len(x) for x in losses),
        nll_sum=float(sum(x.sum() for x in losses)),
        text_bytes=_predicted_bytes(windows, tokens),
        environment=describe_environment(),
    )


def _predicted_bytes(windows: Sequence[Window], tokens: TokenSet) -> int | None:
    """UTF-8 bytes of the predicted tokens; ``None`` when the text is not known."""
    sizes = tokens.token_bytes
    if sizes is None:
        return None
    return int(sum(sizes[w.sequence][w.start + w.first : w.start + len(w.ids)].sum() for w in windows))


def score(
    scorer: Scorer,
    tokens: TokenSet,
    protocol: WindowProtocol,
    *,
    chunk: int = CHUNK,
    progress: Progress = silent,
) -> ScoreReport:
    """Perplexity of a model on a token set.

    Args:
        scorer: The model.
        tokens: What to predict; its unit must be the protocol's.
        protocol: How it is cut into windows; ``None`` options are filled in for this model.
        chunk: Positions per forward pass.
        progress: Called with predicted tokens done and in all.

    Raises:
        SpecError: A window is longer than the model's context.
        DataError: The tokens do not fit the model or the protocol.
    """
    protocol = protocol.resolved(scorer.context_length)
    tokens.check(scorer.vocab_size)
    windows = protocol.windows(tokens)
    total, done = sum(w.predicted for w in windows), 0
    losses = []
    for window in windows:
        parts = []
        for (logits,), targets in predictions([scorer], window, chunk):
            parts.append(token_nll(logits, targets))
            del logits
            done += len(targets)
            progress("scoring", done, total)
        losses.append(np.concatenate(parts))
    return make_report(scorer.label, losses, windows, tokens, protocol)
