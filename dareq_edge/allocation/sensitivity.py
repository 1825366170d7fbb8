"""Sensitivity: what storing each linear layer in each form would cost the model, measured without data.

The float model is walked once over tokens it wrote itself or that were drawn uniformly. A layer's error E = W - Ŵ
costs about 1/2 tr(G E H Eᵀ) nats per token (``blockwise.outputs``); error feedback makes up for part of it, which
is counted by taking what is left of H's columns and G's rows then: 1/2 sum_ij g_i d_j E_ij². Costs add up:
ten blocks of SmolLM2-135M quantized together cost 0.069 nats where their sum is 0.078 (docs/entropy.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dareq_edge.blockwise.gather import Stream, gather
from dareq_edge.blockwise.groups import input_groups
from dareq_edge.blockwise.importance import importances
from dareq_edge.blockwise.outputs import Outputs
from dareq_edge.blockwise.walk import Decoder
from dareq_edge.progress import Progress, silent
from dareq_edge.rounding.codes import dequantize, nearest
from dareq_edge.rounding.feedback import factorize
from dareq_edge.rounding.search import search_scales
from dareq_edge.spec import QuantSpec

_DAMPING, _ROW_DAMPING = 0.3, 2.0
"""Larger than what rounding needs: estimates from few tokens are not taken at their word (docs/entropy.md)."""


@torch.no_grad()
def sensitivities(
    decoder: Decoder,
    ids: torch.Tensor,
    outputs: Outputs,
    specs: Sequence[QuantSpec],
    progress: Progress = silent,
) -> dict[str, list[float]]:
    """Walk the float model.

    Args:
        decoder: The model.
        ids: Tokens, int64 [S, T].
        outputs: Output moments of all blocks, measured already.
        specs: Forms to try.
        progress: Called per block.

    Returns:
        Module name → nats per token for each of ``specs``.

    Raises:
        CheckpointError: NaN or infinity in a weight or among a layer's inputs.
    """
    hidden, costs = decoder.embed(ids), {}
    for index in range(decoder.count):
        progress("measuring sensitivity", index, decoder.count)
        block = decoder.block(index)
        groups = input_groups(decoder, block, index)
        moments = gather(decoder, index, Stream(block, hidden), [group[0] for group in groups])
        known = outputs.load(index)
        for group in groups:
            second, first = moments.pop(group[0]).second, f"{decoder.path(index)}.{group[0]}"
            left = factorize(second, damping=_DAMPING, name=first).variances()
            for name, (weight, rows) in zip(
                group, importances(block, group, second, known, _ROW_DAMPING), strict=True
            ):
                full = f"{decoder.path(index)}.{name}"
                costs[full] = [layer_cost(weight, rows, left, spec, full) for spec in specs]
        decoder.advance(block, index, hidden)
    progress("measuring sensitivity", decoder.count, decoder.count)
    return costs


def layer_cost(weight: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, spec: QuantSpec, name: str) -> float:
    """Nats per token that one layer costs in one form, scales searched.

    Args:
        weight: W, float32 [N, K].
        rows: g, float32 [N].
        columns: d, float32 [K].
        spec: The form.
        name: For messages.
    """
    scales = search_scales(weight, columns, spec, name=name)
    error = weight - dequantize(nearest(weight, scales, spec), scales, spec)
    per_row = error.square_().double() @ columns.double()
    return 0.5 * float(per_row @ rows.double())
