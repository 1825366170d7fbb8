"""Quantize a checkpoint tensor by tensor: what is in memory is one tensor and one output shard, never the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.errors import CheckpointError, SpecError
from dareq_edge.folders import new_folder
from dareq_edge.hf import DareqConfig
from dareq_edge.manifest import Manifest, TensorEntry
from dareq_edge.matrix import matrix_of
from dareq_edge.plan import QuantOptions, plan_model
from dareq_edge.progress import Progress, silent
from dareq_edge.shards import ShardWriter
from dareq_edge.spec import QuantSpec
from dareq_edge.tokenizer_files import copy_tokenizer

_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """Everything that is decided before the first byte is written."""

    checkpoint: Checkpoint
    names: Mapping[str, str]  # model tensor -> name in the files
    plan: Mapping[str, QuantSpec]
    model: torch.nn.Module  # on the meta device: structure only


def quantize_checkpoint(
    source: str | Path,
    out: str | Path,
    options: QuantOptions | DareqConfig,
    *,
    revision: str | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Write the quantized checkpoint of a float one.

    The folder is what ``from_pretrained(source, quantization_config=options, dtype="auto")`` followed by
    ``save_pretrained(out)`` would hold, and a dareq.json.

    Args:
        source: A local folder or a hub id.
        out: Folder to create; it appears when it is complete.
        options: How to quantize; a config's ``plan`` is computed anew.
        revision: Branch, tag or commit on the hub.
        overwrite: Replace ``out`` if it exists.
        trust_remote_code: Let transformers run code that comes with the model.
        progress: Called per tensor.

    Returns:
        The manifest, as written to ``out/dareq.json``.

    Raises:
        CheckpointError: The checkpoint is missing, incomplete, corrupt, or already quantized.
        UnsupportedArchitectureError: Not a causal language model, or nothing to quantize.
        SpecError: ``out`` exists, or an option cannot work.
        ArtifactError: The disk is full.
    """
    out = Path(out)
    options = options.options() if isinstance(options, DareqConfig) else options
    job = _prepare(str(source), options, revision, trust_remote_code=trust_remote_code)
    if out.resolve() == job.checkpoint.folder.resolve():
        raise SpecError(f"{out} is the model that is read; choose another --out")
    with new_folder(out, overwrite=overwrite) as scratch:
        entries = _stream(job, options, scratch, progress)
        _write_configs(job, options, scratch)
        copy_tokenizer(job.checkpoint.folder, scratch)
        manifest = Manifest("checkpoint", job.checkpoint.source, job.checkpoint.revision, entries).with_files(scratch)
        manifest.write(scratch)
    return manifest


def _prepare(source: str, options: QuantOptions, revision: str | None, *, trust_remote_code: bool) -> _Job:
    """Open, plan and check everything that can be checked from headers."""
    checkpoint = Checkpoint.open(source, revision, trust_remote_code=trust_remote_code)
    if checkpoint.quantization is not None:
        method = checkpoint.quantization.get("quant_method")
        raise CheckpointError(f"{source} is already quantized (quant_method {method!r}); give the float model")
    model = checkpoint.empty_model(trust_remote_code=trust_remote_code)
    names = checkpoint.bind(model)
    plan = plan_model(model, options)
    for module in plan:
        name = names[f"{module}.weight"]
        info = checkpoint.tensors[name]
        if info.dtype not in _FLOATS:
            raise CheckpointError(
                f"tensor {name!r} in {info.file} is {info.dtype}; only {', '.join(_FLOATS)} weights can be "
                "quantized, give the float model"
            )
    return _Job(checkpoint, names, plan, model)


def _stream(job: _Job, options: QuantOptions, scratch: Path, progress: Progress) -> dict[str, TensorEntry]:
    """Quantize and write every tensor; returns the manifest's entries without their files filled in."""
    quantizer = options.quantizer()
    writer = ShardWriter(scratch)
    entries: dict[str, TensorEntry] = {}
    first: dict[str, str] = {}
    shape: tuple[int, ...]
    for done, (target, name) in enumerate(job.names.items()):
        progress("quantizing", done, len(job.names))
        tensor = job.checkpoint.tensor(name)
        module = target.removesuffix(".weight")
        if target.endswith(".weight") and module in job.plan:
            spec = job.plan[module]
            quantized = quantizer(matrix_of(job.model.get_submodule(module), tensor), spec, name=module)
            stored = {
                f"{module}.qweight": torch.from_numpy(quantized.packed()),
                f"{module}.scales": torch.from_numpy(quantized.scales),
            }
            shape, bits, scheme, method = quantized.shape, spec.bits, spec.scheme, spec.method
            del quantized
        else:
            stored = {target: tensor.clone()}  # frees the file mapping
            shape, bits, scheme = tuple(tensor.shape), 8 * tensor.element_size(), str(tensor.dtype).split(".")[-1]
            method = None
        del tensor
        size = sum(t.numel() * t.element_size() for t in stored.values())
        entries[target] = TensorEntry(shape, bits, scheme, method, "", None, size)
        first[target] = next(iter(stored))
        writer.add(stored)
        del stored
    files = writer.close()
    progress("quantizing", len(job.names), len(job.names))
    return {
        t: TensorEntry(e.shape, e.bits, e.scheme, e.method, files[first[t]], None, e.bytes)
        for t, e in entries.items()
    }


def _write_configs(job: _Job, options: QuantOptions, scratch: Path) -> None:
    """config.json with the plan, and generation_config.json."""
    source = job.checkpoint.folder
    config: dict[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    plan = {module: dict(spec.to_json()) for module, spec in job.plan.items()}
    chosen = {f.name: getattr(options, f.name) for f in fields(options)}
    quantization = DareqConfig(**chosen | {"skip": list(options.skip), "plan": plan}).to_dict()
    config |= {"architectures": [type(job.model).__name__], "quantization_config": quantization}
    (scratch / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if (source / "generation_config.json").is_file():
        text = (source / "generation_config.json").read_text(encoding="utf-8")
        (scratch / "generation_config.json").write_text(text, encoding="utf-8")
    else:
        GenerationConfig.from_model_config(job.checkpoint.config).save_pretrained(scratch)
