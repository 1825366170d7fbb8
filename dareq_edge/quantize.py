"""Quantize a checkpoint tensor by tensor: what is in memory is one tensor and one output shard, never the model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.folders import new_folder
from dareq_edge.hf import DareqConfig
from dareq_edge.manifest import Manifest, TensorEntry
from dareq_edge.plan import QuantOptions, check_plan, plan_model
from dareq_edge.progress import Progress, silent
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Recipe, Source, recipe_json
from dareq_edge.recipes._matrix import MatrixRecipe
from dareq_edge.records import read_json
from dareq_edge.shards import ShardWriter
from dareq_edge.spec import QuantSpec
from dareq_edge.tokenizer_files import copy_tokenizer

Planner = Callable[[Source, Recipe, Progress], Mapping[str, QuantSpec]]
"""Makes a plan for a source whose plan names every matrix that may be in it; e.g. ``allocation.planners``."""

_FLOATS = ("F64", "F32", "F16", "BF16")


def quantize_checkpoint(
    source: str | Path,
    out: str | Path,
    options: QuantOptions | DareqConfig,
    recipe: Recipe | None = None,
    *,
    plan: Mapping[str, QuantSpec] | Planner | None = None,
    revision: str | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    work: str | Path | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Write the quantized checkpoint of a float one.

    The folder is what ``from_pretrained(source, quantization_config=options, dtype="auto")`` followed by
    ``save_pretrained(out)`` would hold, and a dareq.json.

    Args:
        source: A local folder or a hub id.
        out: Folder to create; it appears when it is complete.
        options: How to quantize; a config's ``plan`` is computed anew.
        recipe: What decides codes and scales; ``None`` is the method in ``options``, matrix by matrix. A recipe that
            takes long keeps its work and goes on from there when the same call is made again.
        plan: Spec per module name, each with bits and groups of its own; what is not named stays float. It takes the
            place of bits, groups and patterns in ``options``; the method is the recipe's. Or what makes such a plan
            of the one that ``options`` give. ``None``: by ``options``.
        revision: Branch, tag or commit on the hub.
        overwrite: Replace ``out`` if it exists.
        trust_remote_code: Let transformers run code that comes with the model.
        work: Where unfinished work is kept, and left in the end; ``None`` is a hidden folder beside ``out``, removed
            in the end.
        progress: Called per tensor, block or step.

    Returns:
        The manifest, as written to ``out/dareq.json``.

    Raises:
        CheckpointError: The checkpoint is missing, incomplete, corrupt, or already quantized.
        UnsupportedArchitectureError: Not a causal language model, or nothing to quantize.
        SpecError: ``out`` exists, or an option cannot work, or the plan names what cannot be quantized so.
        ArtifactError: The disk is full.
    """
    out = Path(out)
    options = options.options() if isinstance(options, DareqConfig) else options
    named, recipe = recipe, recipe or MatrixRecipe()
    kept = unfinished(out) if work is None else Path(work)
    given = None if callable(plan) else plan
    job = _prepare(str(source), kept, options, recipe, given, revision, trust_remote_code=trust_remote_code)
    if out.resolve() == job.checkpoint.folder.resolve():
        raise SpecError(f"{out} is the model that is read; choose another --out")
    with new_folder(out, overwrite=overwrite) as scratch:
        if callable(plan):
            chosen = check_plan(job.model, plan(job, recipe, progress), job.options.method)
            job = replace(job, plan=chosen)
            recipe.check(job)
        entries = _stream(job, recipe, scratch, progress)
        _write_configs(job, named, entries, scratch)
        copy_tokenizer(job.checkpoint.folder, scratch)
        manifest = Manifest("checkpoint", job.checkpoint.source, job.checkpoint.revision, entries).with_files(scratch)
        manifest.write(scratch)
    if work is None:
        shutil.rmtree(kept, ignore_errors=True)
    return manifest


def unfinished(out: Path) -> Path:
    """The hidden folder beside ``out`` where long work is kept until ``out`` is complete."""
    out = Path(os.path.abspath(out))
    return out.with_name(f".{out.name}.resume")


def _prepare(
    source: str,
    work: Path,
    options: QuantOptions,
    recipe: Recipe,
    given: Mapping[str, QuantSpec] | None,
    revision: str | None,
    *,
    trust_remote_code: bool,
) -> Source:
    """Open, plan and check everything that can be checked from headers."""
    checkpoint = Checkpoint.open(source, revision, trust_remote_code=trust_remote_code)
    if checkpoint.quantization is not None:
        method = checkpoint.quantization.get("quant_method")
        raise CheckpointError(f"{source} is already quantized (quant_method {method!r}); give the float model")
    model = checkpoint.empty_model(trust_remote_code=trust_remote_code)
    names = checkpoint.bind(model)
    options = recipe.options(options)
    plan = plan_model(model, options) if given is None else check_plan(model, given, options.method)
    for module in plan:
        name = names.get(f"{module}.weight")
        if name is None:  # transformers computes a few tables that old files do not hold
            raise CheckpointError(f"{source} has no tensor {module}.weight; keep it in float with --skip {module}")
        info = checkpoint.tensors[name]
        if info.dtype not in _FLOATS:
            raise CheckpointError(
                f"tensor {name!r} in {info.file} is {info.dtype}; only {', '.join(_FLOATS)} weights can be "
                "quantized, give the float model"
            )
    job = Source(checkpoint, names, plan, model, options, work, trust_remote_code)
    recipe.check(job)
    return job


def _stream(job: Source, recipe: Recipe, scratch: Path, progress: Progress) -> dict[str, TensorEntry]:
    """Write what the recipe changes, then everything else; returns the manifest's entries, in the model's order."""
    writer = ShardWriter(scratch)
    entries: dict[str, TensorEntry] = {}
    first: dict[str, str] = {}
    for target, value in recipe.changes(job, progress):
        entries[target], stored = _stored(target, value)
        first[target] = next(iter(stored))
        writer.add(stored)
    for done, target in enumerate(job.names):
        progress("writing", done, len(job.names))
        if target not in entries:
            # clone: frees the file mapping
            entries[target], stored = _stored(target, job.tensor(target).clone())
            first[target] = target
            writer.add(stored)
    files = writer.close()
    progress("writing", len(job.names), len(job.names))
    return {target: replace(entries[target], file=files[first[target]]) for target in job.names}


def _stored(target: str, value: torch.Tensor | QuantizedTensor) -> tuple[TensorEntry, dict[str, torch.Tensor]]:
    """The manifest's entry, without its file, and the tensors to write."""
    if isinstance(value, torch.Tensor):
        stored = {target: value}
        shape, bits, method = tuple(value.shape), 8 * value.element_size(), None
        scheme = str(value.dtype).split(".")[-1]
    else:
        module = target.removesuffix(".weight")
        stored = {
            f"{module}.qweight": torch.from_numpy(value.packed()),
            f"{module}.scales": torch.from_numpy(value.scales),
        }
        shape, bits, scheme, method = value.shape, value.spec.bits, value.spec.scheme, value.spec.method
    size = sum(t.numel() * t.element_size() for t in stored.values())
    return TensorEntry(shape, bits, scheme, method, "", None, size), stored


def _write_configs(job: Source, recipe: Recipe | None, entries: dict[str, TensorEntry], scratch: Path) -> None:
    """config.json with the plan and the recipe, and generation_config.json."""
    source = job.checkpoint.folder
    config: dict[str, Any] = read_json(source / "config.json")
    plan = {
        module: dict(spec.to_json()) | {"method": entries[f"{module}.weight"].method}
        for module, spec in job.plan.items()
    }
    chosen: dict[str, Any] = {f.name: getattr(job.options, f.name) for f in fields(job.options)}
    chosen |= {"skip": list(job.options.skip), "plan": plan, "recipe": recipe and recipe_json(recipe)}
    quantization = DareqConfig(**chosen).to_dict()
    config |= {"architectures": [type(job.model).__name__], "quantization_config": quantization}
    (scratch / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if (source / "generation_config.json").is_file():
        text = (source / "generation_config.json").read_text(encoding="utf-8")
        (scratch / "generation_config.json").write_text(text, encoding="utf-8")
    else:
        GenerationConfig.from_model_config(job.checkpoint.config).save_pretrained(scratch)
