"""The host's predictions, measured and written row by row: no [P, V] matrix, not even a [P, k] one in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dareq_edge.progress import Progress, silent
from dareq_runtime.kit.layout import TOP, reference_name
from dareq_runtime.scorer import Scorer
from dareq_runtime.scoring import ROWS, predictions, token_nll
from dareq_runtime.windows import Window


def write_references(
    scorer: Scorer, compute: str, windows: Sequence[Window], folder: Path, *, chunk: int, progress: Progress = silent
) -> list[NDArray[np.float64]]:
    """Measure one compute and write its three files; see ``layout``.

    Args:
        scorer: The exported model with that compute.
        compute: "int8" or "fp32".
        windows: What is read.
        folder: Scratch folder that becomes the kit.
        chunk: Positions per forward pass; the device uses the same.
        progress: Called with predicted tokens done and in all.

    Returns:
        Losses, float64 [c_i] per window, nats.
    """
    total, k = sum(w.predicted for w in windows), min(TOP, scorer.vocab_size)
    parts: dict[str, tuple[str, tuple[int, ...]]] = {"nll": ("<f8", (total,)), "top": ("<i4", (total, k))}
    parts["logp"] = ("<f4", (total, k))
    losses, done = [], 0
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(npy_rows(folder / reference_name(compute, name), *form))
            for name, form in parts.items()
        }
        for window in windows:
            of_window = []
            for (logits,), targets in predictions([scorer], window, chunk):
                for start in range(0, len(targets), ROWS):
                    rows = logits[start : start + ROWS]
                    nll, top, logp = reference_rows(rows, targets[start : start + ROWS], k)
                    for name, array in (("nll", nll), ("top", top), ("logp", logp)):
                        files[name].write(array.astype(parts[name][0]).tobytes())
                    of_window.append(nll)
                del logits
                done += len(targets)
                progress(f"measuring {compute} compute", done, total)
            losses.append(np.concatenate(of_window))
    return losses


def reference_rows(
    logits: NDArray[np.float32], targets: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Loss, likeliest tokens and their log-probabilities.

    Args:
        logits: float32 [t, V].
        targets: int64 [t].
        k: Tokens to keep, at most V.

    Returns:
        float64 [t], nats; int64 [t, k]; float64 [t, k].
    """
    nll = token_nll(logits, targets)
    picked = np.take_along_axis(logits, targets[:, None], axis=1).astype(np.float64)
    top = likeliest(logits, k)
    return nll, top, np.take_along_axis(logits, top, axis=1) - (nll[:, None] + picked)


def likeliest(logits: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The k likeliest tokens of each row, int64 [t, k]: likeliest first, the smaller id first among equals.

    The first column is what ``argmax`` gives; which of several equals at the k-th place are kept is left open.
    """
    best = logits.argmax(axis=1)[:, None]
    top = np.argpartition(logits, logits.shape[1] - k, axis=1)[:, -k:]
    top[:, :1] = np.where((top == best).any(axis=1, keepdims=True), top[:, :1], best)
    order = np.lexsort((top, -np.take_along_axis(logits, top, axis=1)), axis=1)
    return np.take_along_axis(top, order, axis=1)


@contextmanager
def npy_rows(path: Path, dtype: str, shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A .npy file of a known shape, open for its rows; plain writes: a full disk is an error, no signal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        header: dict[str, Any] = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        yield file
