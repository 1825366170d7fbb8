"""How far a recipe moved every matrix: from the float checkpoint and what was made of it, one matrix at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from dareq_edge.changed import changed_tensors
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.comparison.matrices import MatrixError, WeightErrors
from dareq_edge.layers import decoder_layers, place_of
from dareq_edge.matrix import matrix_of
from dareq_edge.plan import QuantOptions, plan_model
from dareq_edge.progress import Progress, silent
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantized import read_plan, read_quantized
from dareq_edge.quantizers._grid import row_blocks
from dareq_edge.spread import Spread


def weight_errors(
    original: Checkpoint,
    folder: Path,
    options: QuantOptions,
    progress: Progress = silent,
    *,
    trust_remote_code: bool = False,
) -> WeightErrors:
    """Measure every quantized matrix.

    Args:
        original: The float model.
        folder: A quantized checkpoint, or a float one whose matrices were quantized and dequantized.
        options: What was planned; decides what was quantized in a float checkpoint.
        progress: Called per matrix.
        trust_remote_code: Let transformers run code that comes with the model.

    Raises:
        CheckpointError: A tensor is missing or has another shape.
    """
    made = Checkpoint.open(str(folder), trust_remote_code=trust_remote_code)
    model = original.empty_model(trust_remote_code=trust_remote_code)
    names, layers = original.bind(model), decoder_layers(model)
    stored = read_plan(made)
    plan = stored or plan_model(model, options)
    found = []
    for done, (module, spec) in enumerate(plan.items()):
        progress("measuring weights", done, len(plan))
        if f"{module}.weight" not in names:
            continue
        owner = model.get_submodule(module)
        w = matrix_of(owner, original.tensor(names[f"{module}.weight"]))
        after: torch.Tensor | QuantizedTensor
        if stored:
            after = read_quantized(made, module, spec, w.shape[1])
        else:
            after = matrix_of(owner, made.tensor(f"{module}.weight"))
        found.append(matrix_error(module, place_of(module, layers)[0], w, after))
    progress("measuring weights", len(plan), len(plan))
    changed = changed_tensors(made, original, model, names, stored) if stored else ()
    return WeightErrors(tuple(found), len(changed))


def matrix_error(
    module: str, block: int | None, weight: torch.Tensor, after: torch.Tensor | QuantizedTensor
) -> MatrixError:
    """Compare a matrix with what it became, some rows at a time.

    Args:
        module: Its name.
        block: Of which decoder block.
        weight: Floating [N, K].
        after: Of the same shape.
    """
    before, residual = Spread(), Spread()
    for w, r in _pieces(weight, after):
        before.widen(w)
        residual.widen(r)
    for w, r in _pieces(weight, after):
        before.count(w)
        residual.count(r)
    norm = math.sqrt(before.squares)
    relative = math.sqrt(residual.squares) / norm if norm else 0.0
    return MatrixError(module, block, weight.numel(), norm, relative, before.entropy, residual.entropy)


def _pieces(
    weight: torch.Tensor, after: torch.Tensor | QuantizedTensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(w, w − ŵ), float32 [rows, K]."""
    n, k = weight.shape
    for rows in row_blocks(n, k):
        w = weight[rows].float()
        if isinstance(after, QuantizedTensor):
            part = replace(after, codes=after.codes[rows], scales=after.scales[rows])
            yield w, w - torch.from_numpy(part.dequantize())
        else:
            yield w, w - after[rows]
