"""Parity: is what runs what was quantized? Several models read the same tokens side by side.

    torch fp32 ──▶ torch DARE-Q ──▶ onnx fp32 compute ──▶ onnx int8 compute
         quantization       0.01 %: export        1 %: kernels       (perplexity tolerance of each link)

The first link is the price of quantization and has no tolerance; a failure of the second says the exported graph
computes something else, of the third that the device's integer kernels do. With an 8-bit cache, which PyTorch's side
does not have, the second allows 0.2 %.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import SpecError
from dareq_edge.progress import Progress, silent
from dareq_runtime.scorer import CHUNK, Scorer
from dareq_runtime.scoring import ROWS, log_softmax, make_report, mean_and_error, predictions
from dareq_runtime.tokens import TokenSet
from dareq_runtime.verdict import FP32_COMPUTE, INT8_CACHE, INT8_COMPUTE, Link, ParityReport, link_report, verdict
from dareq_runtime.windows import WindowProtocol


def chain(
    *,
    original: Scorer | None = None,
    quantized: Scorer | None = None,
    fp32: Scorer | None = None,
    int8: Scorer | None = None,
    cache_bits: int = 32,
) -> tuple[list[Scorer], list[Link]]:
    """The models given, and the links between neighbours; also original -> last, for information.

    Args:
        original: The unquantized model in PyTorch.
        quantized: The quantized model in PyTorch.
        fp32: The exported model with fp32 compute.
        int8: The exported model as shipped (accuracy level 4).
        cache_bits: Of the exported model's keys and values; 8 is a source of error of its own, in the second link.

    Raises:
        SpecError: Fewer than two models are given.
    """
    exact = INT8_CACHE if cache_bits == 8 else FP32_COMPUTE
    slots = ((original, None), (quantized, None), (fp32, exact), (int8, INT8_COMPUTE))
    given = [(s, t) for s, t in slots if s is not None]
    if len(given) < 2:
        raise SpecError("parity needs at least two models to compare; give one more")
    scorers = [s for s, _ in given]
    links = []
    for (before, _), (after, tolerance) in itertools.pairwise(given):
        informs = before is original  # quantization, not the tool chain, is what differs here
        links.append(Link(before.label, after.label, None if informs else tolerance))
    if original is not None and len(scorers) > 2:
        links.append(Link(original.label, scorers[-1].label))
    return scorers, links


def compare(
    scorers: Sequence[Scorer],
    links: Sequence[Link],
    tokens: TokenSet,
    protocol: WindowProtocol,
    *,
    chunk: int = CHUNK,
    progress: Progress = silent,
) -> ParityReport:
    """Score several models on the same tokens in one pass and compare them link by link.

    Raises:
        SpecError: Labels repeat, a link names no model, or vocabularies or contexts do not fit.
        DataError: The tokens do not fit the models or the protocol.
    """
    index = _check(scorers, links)
    protocol = protocol.resolved(min(s.context_length for s in scorers))
    tokens.check(scorers[0].vocab_size)
    windows = protocol.windows(tokens)
    total, done = sum(w.predicted for w in windows), 0
    pairs = [(index[k.reference], index[k.subject]) for k in links]
    tally = _Tally(len(scorers), pairs)
    for window in windows:
        tally.open_window()
        for pieces, targets in predictions(scorers, window, chunk):
            for start in range(0, len(targets), ROWS):
                part = slice(start, start + ROWS)
                tally.add([p[part] for p in pieces], targets[part])
            done += len(targets)
            progress("comparing", done, total)
    scores = [make_report(s.label, tally.losses(i), windows, tokens, protocol) for i, s in enumerate(scorers)]
    found = []
    for i, link in enumerate(links):
        a, b = pairs[i]
        gaps = [y - x for x, y in zip(tally.losses(a), tally.losses(b), strict=True)]
        error = mean_and_error(gaps, protocol.weighting)[1]
        found.append(link_report(link, scores[a], scores[b], error, tally.kl(i), tally.agreement(i)))
    return verdict(scores, found)


class _Tally:
    """Per-token losses of every model, and divergence and agreement of every pair, in float64."""

    def __init__(self, models: int, pairs: Sequence[tuple[int, int]]) -> None:
        self._pairs = pairs
        self._losses: list[list[list[NDArray[np.float64]]]] = [[] for _ in range(models)]
        self._kl: list[list[NDArray[np.float64]]] = [[] for _ in pairs]
        self._same = [0] * len(pairs)

    def open_window(self) -> None:
        for per_model in self._losses:
            per_model.append([])

    def add(self, pieces: Sequence[NDArray[np.float32]], targets: NDArray[np.int64]) -> None:
        """Add float32 [t, V] of every model and int64 [t]."""
        logs = [log_softmax(p) for p in pieces]
        best = [p.argmax(axis=1) for p in pieces]
        for i, log in enumerate(logs):
            self._losses[i][-1].append(-np.take_along_axis(log, targets[:, None], axis=1)[:, 0])
        for i, (a, b) in enumerate(self._pairs):
            self._kl[i].append((np.exp(logs[a]) * (logs[a] - logs[b])).sum(axis=1))
            self._same[i] += int((best[a] == best[b]).sum())

    def losses(self, model: int) -> list[NDArray[np.float64]]:
        """float64 [c_i] per window."""
        return [np.concatenate(parts) for parts in self._losses[model]]

    def kl(self, pair: int) -> NDArray[np.float64]:
        """float64 [tokens]."""
        return np.concatenate(self._kl[pair])

    def agreement(self, pair: int) -> float:
        return self._same[pair] / sum(len(x) for x in self._kl[pair])


def _check(scorers: Sequence[Scorer], links: Sequence[Link]) -> dict[str, int]:
    """Label -> position, once everything fits together."""
    index = {s.label: i for i, s in enumerate(scorers)}
    if len(index) != len(scorers):
        raise SpecError(f"two models have the same label among {[s.label for s in scorers]}; name them apart")
    for name in (n for link in links for n in (link.reference, link.subject)):
        if name not in index:
            raise SpecError(f"no model is labelled {name!r} (available: {', '.join(index)})")
    sizes = {s.label: s.vocab_size for s in scorers}
    if len(set(sizes.values())) > 1:
        raise SpecError(f"vocabularies differ ({sizes}); compare exports of the same model")
    return index
