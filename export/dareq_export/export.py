"""The line of export: capture, clean, bind, verify, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir

from dareq_edge.errors import ArtifactError, ExportError
from dareq_edge.folders import new_folder
from dareq_edge.manifest import Manifest
from dareq_edge.progress import Progress, silent
from dareq_edge.spec import QuantSpec
from dareq_export.bind import entries, fill, write_data
from dareq_export.capture import Captured, cache_shape, capture, read_config, write_fast_tokenizer
from dareq_export.clients import write_client_files
from dareq_export.passes import clean
from dareq_export.passes.int8_cache import Int8CachePass, Ranges
from dareq_export.profiles import Profile, ProfileName, find_profile
from dareq_export.slots import Slot, attach_parameters, detach_parameters
from dareq_export.source import QuantizedSource
from dareq_export.standard import standardize
from dareq_export.verify import verify

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def export_onnx(
    source: str | Path,
    out: str | Path,
    *,
    profile: ProfileName = "native",
    overwrite: bool = False,
    cache_ranges: Callable[[Path], Ranges] | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Export a quantized checkpoint to an ONNX folder.

    Args:
        source: Folder written by ``quantize_checkpoint`` or by transformers' ``save_pretrained`` with DARE-Q.
        out: Folder to create; it appears whole or not at all.
        profile: Which operators hold the weights, and how files are called; see ``profiles.ProfileName``.
        overwrite: Replace ``out`` if it exists.
        cache_ranges: Makes keys and values 8 bits wide: called with the finished folder, gives the largest
            magnitude per channel of every cache (``dareq_runtime.cache_ranges`` measures it); ``None``: float32.
        progress: Called with ("capturing", …), ("writing", bytes done, bytes in all) and ("checking", …).

    Returns:
        The manifest, as written to ``out/dareq.json``.

    Raises:
        CheckpointError: The source is not a quantized checkpoint or is damaged.
        UnsupportedArchitectureError: The model cannot be captured.
        ExportError: The graph is not what was planned.
        SpecError: There is no such profile.
    """
    form = find_profile(profile)
    folder = Path(source)
    quantized = QuantizedSource.open(folder)
    config = read_config(folder)
    with new_folder(Path(out), overwrite=overwrite) as scratch:
        progress("capturing", 0, 1)
        captured, slots = build(config, quantized.plan, form)
        progress("capturing", 1, 1)
        graph = scratch / form.graph
        graph.parent.mkdir(exist_ok=True)
        total = sum(slot.nbytes for slot in slots.values() if slot.shares is None)
        for done in write_data(graph.parent, fill(slots, captured, quantized)):
            progress("writing", done, total)
        graph.write_bytes(graph_bytes(captured))
        heads, width = cache_shape(config)
        files = len({slot.file for slot in slots.values()})
        write_client_files(folder, scratch, kv_heads=heads, head_dim=width, profile=form, data_files=files)
        write_fast_tokenizer(folder, scratch)
        manifest = Manifest(
            "onnx",
            *_provenance(folder),
            profile=form.name,
            graph=form.graph,
            sessions=form.sessions,
            tensors=entries(slots, captured, quantized.plan, form),
        )
        manifest = _finish(scratch, manifest)
        if cache_ranges is not None:
            Int8CachePass(cache_ranges(scratch))(captured.model)
            graph.write_bytes(graph_bytes(captured))
            manifest = _finish(scratch, manifest)
    return manifest


def build(config: PretrainedConfig, plan: Mapping[str, QuantSpec], form: Profile) -> tuple[Captured, dict[str, Slot]]:
    """The finished graph, and where its parameters go; no weights are read."""
    captured = capture(config, plan)
    values = detach_parameters(captured)
    joins = clean(captured.model)
    if form.standard:
        captured = standardize(captured, values, joins, plan)
    slots = attach_parameters(captured, values, joins, form)
    verify(captured, slots, plan)
    return captured, slots


def _finish(scratch: Path, manifest: Manifest) -> Manifest:
    """List the files, check them, and write dareq.json."""
    manifest = manifest.with_files(scratch)
    _check(scratch, manifest)
    manifest.write(scratch)
    return manifest


def _provenance(folder: Path) -> tuple[str, str | None]:
    """(source, revision) from the quantized checkpoint's own manifest, or the folder's name."""
    try:
        manifest = Manifest.read(folder)
    except ArtifactError:  # written by save_pretrained, which keeps no manifest
        return folder.name, None
    return manifest.source, manifest.revision


def graph_bytes(captured: Captured) -> bytes:
    """The content of the ONNX file; weights are named, not contained."""
    model = captured.model
    model.producer_name = "dareq-edge"
    model.graph.name = "decoder"
    proto = ir.to_proto(model)
    known = {tensor.name for tensor in proto.graph.initializer}  # their shapes need not be said twice
    values = [value for value in proto.graph.value_info if value.name not in known]
    for value in (*values, *proto.graph.input, *proto.graph.output):
        value.ClearField("metadata_props")  # torch's names of them
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(values)
    return bytes(proto.SerializeToString())


def _check(scratch: Path, manifest: Manifest) -> None:
    """The checker accepts the file, and the data files have the sizes that their tensor table says."""
    try:
        onnx.checker.check_model(str(scratch / manifest.graph))
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ExportError(f"onnx.checker rejects the graph: {error}") from error
    for file in {tensor.file for tensor in manifest.tensors.values()}:
        size, expected = manifest.files[file].bytes, manifest.expected_bytes(file)
        if size != expected:
            raise ExportError(f"{file} has {size} bytes; its tensors add up to {expected}")
