"""Statistics of every quantized matrix, from the float and the quantized checkpoint, one tensor at a time.

With W the float matrix, Ŵ what the codes stand for, r = W − Ŵ the residual and s the scale of each weight:

    error       ‖r‖ / ‖W‖, Frobenius
    histogram   of r / s: half a step is the most that rounding to nearest leaves; beyond it weights were clipped, or
                moved on purpose (error feedback)
    entropy     −Σ p ln p over a histogram of 128 equal bins between smallest and largest value, as DARE-Q's paper
                defines it (Eqs. 6-9) without its 1e-8: before quantization of W, which is the residual of an empty
                model, and after it of r. Never more than ln 128 = 4.852 nats, which an even spread would have.
    code bits   −Σ p log2 p over the codes: what an entropy coder of single codes needs per weight
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from dareq_edge.changed import changed_tensors
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.layers import decoder_layers, place_of
from dareq_edge.matrix import matrix_of
from dareq_edge.progress import Progress, silent
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantized import read_plan, read_quantized
from dareq_edge.quantizers._grid import row_blocks
from dareq_edge.reporting.statistics import (
    STEP_BINS,
    STEP_RANGE,
    ErrorStats,
    MatrixStats,
    ScaleStats,
    WeightStats,
)
from dareq_edge.spread import Spread


def weight_stats(
    quantized: Checkpoint,
    original: Checkpoint | None,
    progress: Progress = silent,
    *,
    trust_remote_code: bool = False,
) -> WeightStats:
    """Measure every matrix of a checkpoint.

    Args:
        quantized: What ``quantize`` wrote.
        original: The float model; ``None`` leaves errors out.
        progress: Called per matrix.
        trust_remote_code: Let transformers run code that comes with the model.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    plan = read_plan(quantized)
    model = quantized.empty_model(trust_remote_code=trust_remote_code)
    names = {} if original is None else original.bind(model)
    layers = decoder_layers(model)
    found = []
    for done, (module, spec) in enumerate(plan.items()):
        progress("measuring weights", done, len(plan))
        owner = model.get_submodule(module)
        n, k = matrix_of(owner).shape
        value = read_quantized(quantized, module, spec, k)
        weight = None
        if original is not None and f"{module}.weight" in names:
            weight = matrix_of(owner, original.tensor(names[f"{module}.weight"]))
        block, kind = place_of(module, layers)
        error = None if weight is None else error_stats(weight, value)
        found.append(
            MatrixStats(
                module, block, kind, n, k, spec.bits, spec.group_size, code_bits(value), scale_stats(value), error
            )
        )
    progress("measuring weights", len(plan), len(plan))
    changed = () if original is None else changed_tensors(quantized, original, model, names, plan)
    return WeightStats(tuple(found), changed)


def scale_stats(value: QuantizedTensor) -> ScaleStats:
    """Of all scales of a matrix; their sign only mirrors the grid."""
    sizes = np.abs(value.scales.ravel()).astype(np.float64)
    return ScaleStats(sizes.size, *(float(q) for q in np.quantile(sizes, [0, 0.05, 0.5, 0.95, 1])))


def code_bits(value: QuantizedTensor) -> float:
    """Entropy of the codes, bits per weight."""
    counts = np.bincount(value.codes.ravel(), minlength=1)
    return entropy(counts) / math.log(2)


def error_stats(weight: torch.Tensor, value: QuantizedTensor) -> ErrorStats:
    """Compare a matrix with what its codes stand for, some rows at a time.

    Args:
        weight: Floating [N, K].
        value: Of the same shape.
    """
    largest = 0.0
    before, after = Spread(), Spread()
    steps = np.zeros(STEP_BINS, np.int64)
    for w, r, s in _pieces(weight, value):
        in_steps = r / s
        largest = max(largest, float(np.abs(in_steps).max()))
        clipped = np.clip(in_steps, -STEP_RANGE, STEP_RANGE)
        steps += np.histogram(clipped, STEP_BINS, (-STEP_RANGE, STEP_RANGE))[0]
        before.widen(torch.from_numpy(w))
        after.widen(torch.from_numpy(r))
    for w, r, _ in _pieces(weight, value):
        before.count(torch.from_numpy(w))
        after.count(torch.from_numpy(r))
    relative = math.sqrt(after.squares / before.squares) if before.squares else 0.0
    return ErrorStats(relative, largest, before.entropy, after.entropy, tuple(int(c) for c in steps))


def entropy(counts: NDArray[np.int64]) -> float:
    """−Σ p ln p, nats.

    Args:
        counts: int64 [B], at least one of them positive.
    """
    p = counts[counts > 0] / counts.sum()
    return max(0.0, float(-(p * np.log(p)).sum()))


def _pieces(
    weight: torch.Tensor, value: QuantizedTensor
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """(w, w − ŵ, |s|), float64 [rows, K] and [rows, K or 1]."""
    n, k = value.shape
    size = value.spec.group_size
    for whole in row_blocks(n, 4 * k):  # a quarter of what quantizers take: there are several float64 arrays here
        w = weight[whole].double().numpy()
        s = value.scales[whole].astype(np.float64)
        s = s if size is None else np.repeat(s, size, axis=1)[:, :k]
        yield w, w - s * (value.codes[whole].astype(np.float64) - value.spec.zero_point), np.abs(s)
