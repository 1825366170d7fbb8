"""A float checkpoint whose planned matrices went through a method that no checkpoint of ours can hold."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import torch

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.dequantized import Dequantizer
from dareq_edge.folders import new_folder
from dareq_edge.matrix import matrix_of
from dareq_edge.plan import QuantOptions, output_head, plan_model
from dareq_edge.progress import Progress, silent
from dareq_edge.shards import ShardWriter


def write_dequantized(
    checkpoint: Checkpoint,
    out: Path,
    options: QuantOptions,
    method: Dequantizer,
    *,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> tuple[int, float]:
    """Write the model with every planned matrix quantized and dequantized to fp32, tensor by tensor.

    Args:
        checkpoint: The float model.
        out: Folder to create or replace.
        options: What is planned; scales are in the method's own form, so ``scale_dtype`` must be "float32".
        method: What the matrices go through.
        trust_remote_code: Let transformers run code that comes with the model.
        progress: Called per tensor.

    Returns:
        Bytes of all weights, and bits per weight of the linear layers, had the method's own form been stored.

    Raises:
        SpecError: The method does not exist in this form.
        DareqError: As reading and planning a checkpoint do.
    """
    model = checkpoint.empty_model(trust_remote_code=trust_remote_code)
    names, plan = checkpoint.bind(model), plan_model(model, options)
    linears = linear_modules(model, options)
    size, bits, weights = 0.0, 0.0, 0
    with new_folder(out, overwrite=True) as scratch:
        writer = ShardWriter(scratch)
        for done, (target, name) in enumerate(names.items()):
            progress("quantizing", done, len(names))
            stored = checkpoint.tensor(name)
            module = target.removesuffix(".weight")
            if module in plan and target.endswith(".weight"):
                layer = model.get_submodule(module)
                w = matrix_of(layer, stored)
                own = w.numel() * method.bits_per_weight(w.shape[1], plan[module])
                size += own / 8
                if module in linears:
                    bits, weights = bits + own, weights + w.numel()
                stored = matrix_of(layer, method(w, plan[module], module))
            else:
                size += stored.numel() * stored.element_size()
                stored = stored.clone()  # frees the file mapping
            writer.add({target: stored})
        progress("quantizing", len(names), len(names))
        writer.close()
        shutil.copy(checkpoint.folder / "config.json", scratch)
    return round(size), bits / weights


def linear_modules(model: torch.nn.Module, options: QuantOptions) -> set[str]:
    """Names of the planned layers that are neither a table nor the head.

    Raises:
        UnsupportedArchitectureError: There is none.
    """
    head = output_head(model)
    plan = plan_model(model, replace(options, table_bits=None, position_bits=None))
    return {name for name in plan if model.get_submodule(name) is not head}
