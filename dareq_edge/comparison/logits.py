"""Losses of many models against one float model that is run only once.

The float model's log-probabilities wait on disk as float16, [tokens, V] in reading order, and are read back a piece
at a time: 2 V bytes per token, 0.1 MB for 50k words. Reading them takes 1/25 of the forward pass that they save each
recipe (SmolLM2-135M, one thread: 0.7 against 16 seconds for 4,096 tokens), and only one model is in memory at a time.
Losses and first choices are float64 and exact; only the divergence sees float16, in a form that rounding enters at
second order (Csiszar's: p need not sum to 1), which adds 3e-7 nats there:

    KL(p || q) = sum_v p (log p - log q) - p + q
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from dareq_edge.errors import ArtifactError, DataError
from dareq_edge.progress import Progress, silent
from dareq_edge.reference import TorchReference

_LEAST = -60000.0  # below any log-probability that matters, and finite in float16
_PIECE = 2**25  # logits that the model gives at a time: 128 MB in float32
_BLOCK = 2**22  # logits turned into float64 at a time: 32 MB


@dataclass(frozen=True, slots=True, eq=False)
class Losses:
    """Per window, float64 [T - 1] each: loss of every predicted token, and against the float model."""

    nll: tuple[NDArray[np.float64], ...]
    kl: tuple[NDArray[np.float64], ...]
    same: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The float model on one text.

    Attributes:
        path: Raw float16 [sum of T - 1, V]: log-probabilities of every predicted token's distribution.
        nll: Loss per window, float64 [T - 1].
        best: First choice per window, int64 [T - 1].
    """

    path: Path
    nll: tuple[NDArray[np.float64], ...]
    best: tuple[NDArray[np.int64], ...]


def record_reference(
    model: TorchReference,
    windows: Sequence[NDArray[np.int64]],
    path: Path,
    stage: str = "scoring",
    progress: Progress = silent,
) -> Reference:
    """Run the float model once.

    Args:
        model: The float model.
        windows: int64 [T] each; every token but the first is predicted.
        path: File to write.
        stage: What progress is called.
        progress: Called with windows done and in all.

    Raises:
        ArtifactError: The disk is too small.
        DataError: The model's logits are not finite.
    """
    need = 2 * model.vocab_size * sum(len(ids) - 1 for ids in windows)
    free = shutil.disk_usage(path.parent).free
    if need > free:
        raise ArtifactError(
            f"the float model's log-probabilities take {need / 1e9:.1f} GB in {path.parent}, which has "
            f"{free / 1e9:.1f} GB free; free some disk, choose another --out, or score fewer --max-tokens"
        )
    nll, best = [], []
    with path.open("wb") as file:
        for done, ids in enumerate(windows):
            progress(stage, done, len(windows))
            losses, first = [], []
            for log_p, targets in _pieces(model, ids):
                log_p.clamp(min=_LEAST).half().numpy().tofile(file)
                losses.append(-log_p.gather(1, targets[:, None])[:, 0])
                first.append(log_p.argmax(1))
            nll.append(_joined(losses))
            best.append(torch.cat(first).numpy())
    progress(stage, len(windows), len(windows))
    return Reference(path, tuple(nll), tuple(best))


def score_against(
    reference: Reference,
    model: TorchReference,
    windows: Sequence[NDArray[np.int64]],
    stage: str = "scoring",
    progress: Progress = silent,
) -> Losses:
    """Losses of a model on the windows that the reference was recorded on.

    Raises:
        DataError: The model's logits are not finite.
    """
    nll, kl, same = [], [], []
    with reference.path.open("rb") as file:
        for done, (ids, best) in enumerate(zip(windows, reference.best, strict=True)):
            progress(stage, done, len(windows))
            losses, gaps, first = [], [], []
            for log_q, targets in _pieces(model, ids):
                losses.append(-log_q.gather(1, targets[:, None])[:, 0])
                first.append(log_q.argmax(1))
                gaps.append(_divergence(_read(file, log_q), log_q))
            nll.append(_joined(losses))
            kl.append(_joined(gaps))
            same.append((torch.cat(first).numpy() == best).astype(np.float64))
    progress(stage, len(windows), len(windows))
    return Losses(tuple(nll), tuple(kl), tuple(same))


def _divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """See the module's docstring; float64 [t, V] twice, ``log_p`` is overwritten, → [t]."""
    p = log_p.exp()
    return log_p.sub_(log_q.clamp(min=_LEAST)).sub_(1.0).mul_(p).sum(1).add_(1.0).clamp_(min=0.0)  # q sums to 1


def _pieces(model: TorchReference, ids: NDArray[np.int64]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Log-probabilities, float64 [t, V], and targets, int64 [t], of a window's predicted tokens, in order."""
    done, chunk, rows = 0, max(16, _PIECE // model.vocab_size), max(1, _BLOCK // model.vocab_size)
    for logits in model.chunk_logits(ids, chunk):
        wanted = logits[: len(ids) - 1 - done]  # the last row predicts what is not there
        for start in range(0, len(wanted), rows):
            part = torch.from_numpy(wanted[start : start + rows])
            logs = torch.log_softmax(part.double(), dim=1)
            if bool(torch.isnan(logs).any()):
                raise DataError("its logits are not finite; it is broken, use another recipe or more bits")
            first = done + start + 1
            yield logs, torch.from_numpy(ids[first : first + len(part)])
        done += len(wanted)


def _read(file: BinaryIO, like: torch.Tensor) -> torch.Tensor:
    found = np.fromfile(file, dtype=np.float16, count=like.numel())
    if found.size != like.numel():
        raise ArtifactError(f"{file.name} is shorter than what was written to it; run the comparison again")
    return torch.from_numpy(found).double().reshape(like.shape)


def _joined(parts: Sequence[torch.Tensor]) -> NDArray[np.float64]:
    return torch.cat(list(parts)).numpy()
