"""write_kit: an exported folder, the tokens it is judged on, and what the host predicted for them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

import dareq_edge
from dareq_edge.folders import inside, new_file, new_folder
from dareq_edge.manifest import NAME, FileEntry, Manifest, mismatch
from dareq_edge.packed import unpack_folder
from dareq_edge.progress import Progress, silent
from dareq_edge.report import ScoreReport
from dareq_runtime.folder import read_manifest
from dareq_runtime.kit import cpus, layout
from dareq_runtime.kit.archive import Add, add_to_folder, add_to_zip
from dareq_runtime.kit.layout import COMPUTES, Kit, KitModel
from dareq_runtime.kit.references import npy_rows, write_references
from dareq_runtime.loading import load
from dareq_runtime.model import OnnxModel
from dareq_runtime.scorer import CHUNK
from dareq_runtime.scoring import make_report
from dareq_runtime.tokens import TokenSet
from dareq_runtime.windows import WindowProtocol, describe


@dataclass(frozen=True, slots=True)
class Written:
    """What was written.

    Attributes:
        out: The folder or zip.
        bytes: Its files' bytes together.
        digest: sha256 of kit.json, which results name.
        kit: kit.json.
    """

    out: Path
    bytes: int
    digest: str
    kit: Kit


@dataclass(frozen=True, slots=True)
class Job:
    """What is predicted, and how.

    Attributes:
        tokens: The tokens.
        protocol: How they are cut into windows.
        chunk: Positions per forward pass, on the host and on the device.
        threads: Threads of onnxruntime on the host; ``None`` is its own choice.
    """

    tokens: TokenSet
    protocol: WindowProtocol
    chunk: int = CHUNK
    threads: int | None = None


def write_kit(folder: Path, out: Path, job: Job, *, overwrite: bool = False, progress: Progress = silent) -> Written:
    """Write a kit, whole or not at all.

    The host's references are measured here, with int8 and with fp32 compute, one session open at a time. A kit holds
    the unpacked model, because validate.py has no decoder.

    Args:
        folder: A folder that ``dareq-edge export`` wrote, of any profile, packed or not; it is verified.
        out: Folder to create, or a zip if the name ends in ".zip".
        job: What is predicted.
        overwrite: Replace ``out`` if it exists.
        progress: Called while measuring and copying.

    Raises:
        ArtifactError: The folder is not ours, incomplete or modified; or there is no room for the kit.
        DataError: The tokens do not fit the model or the protocol.
        SpecError: ``out`` exists, or a window is longer than the model's context.
    """
    with _new(out, overwrite=overwrite) as (scratch, add), tempfile.TemporaryDirectory(dir=scratch) as place:
        work = Path(place) / "work"
        work.mkdir()
        if read_manifest(folder).packed:
            unpack_folder(folder, Path(place) / "unpacked", progress=progress)
            folder = Path(place) / "unpacked"
        kit, manifest = _measure(folder, work, job, progress)
        kit = replace(kit, files=_copy(folder, manifest, work, add, progress))
        content = (json.dumps(kit.to_json(), indent=1, ensure_ascii=False) + "\n").encode()
        (work / layout.KIT_JSON).write_bytes(content)
        (work / layout.DIGEST).write_bytes(layout.digest_line(content))
        last = [add(name, work / name) for name in (layout.KIT_JSON, layout.DIGEST)]
    size = sum(entry.bytes for entry in (*kit.files.values(), *last))
    return Written(out, size, sha256(content).hexdigest(), kit)


@contextmanager
def _new(out: Path, *, overwrite: bool) -> Iterator[tuple[Path, Add]]:
    """A scratch folder, and where the kit's files go."""
    if out.suffix != ".zip":
        with new_folder(out, overwrite=overwrite) as scratch:
            yield scratch, add_to_folder(scratch)
    else:
        with new_file(out, overwrite=overwrite) as path, add_to_zip(path, out.stem) as add:
            yield path.parent, add


def _measure(folder: Path, work: Path, job: Job, progress: Progress) -> tuple[Kit, Manifest]:
    """Write tokens and references under ``work``; kit.json without its files, and dareq.json."""
    references: dict[str, ScoreReport] = {}
    for compute in COMPUTES:
        model = load(folder, compute=compute, threads=job.threads, verify=compute == COMPUTES[0])
        protocol = job.protocol.resolved(model.context_length)
        job.tokens.check(model.vocab_size)
        windows = protocol.windows(job.tokens)
        losses = write_references(model, compute, windows, work, chunk=job.chunk, progress=progress)
        references[compute] = make_report(model.label, losses, windows, job.tokens, protocol)
    ids = np.concatenate(job.tokens.sequences).astype("<i8")
    with npy_rows(work / layout.TOKENS, "<i8", ids.shape) as file:  # numpy.save would not say that the disk is full
        file.write(ids.tobytes())
    manifest = model.folder.manifest
    kit = Kit(
        made_by=f"dareq-edge {dareq_edge.__version__}",
        model=_describe(model),
        protocol=describe(protocol),
        weighting=protocol.weighting,
        chunk=job.chunk,
        windows=layout.plain_windows(windows, job.tokens.sequences),
        sessions={c: asdict(manifest.sessions[c]) for c in COMPUTES},
        references=references,
        tolerances={c: layout.tolerance(c, model.cache_bits).relative_ppl for c in COMPUTES},
        cpus=cpus.CPUS,
        features=cpus.FEATURES,
        files={},
    )
    return kit, manifest


def _describe(model: OnnxModel) -> KitModel:
    manifest = model.folder.manifest
    return KitModel(
        source=manifest.source,
        profile=manifest.profile,
        graph=f"{layout.MODEL}/{manifest.graph}",
        vocab_size=model.vocab_size,
        context_length=model.context_length,
        cache_bits=model.cache_bits,
    )


def _copy(folder: Path, manifest: Manifest, work: Path, add: Add, progress: Progress) -> dict[str, FileEntry]:
    """Copy everything but kit.json: the program, what was measured, and the exported folder.

    Raises:
        ArtifactError: A file of the exported folder is no longer what it was when it was verified.
    """
    sources = {layout.VALIDATE: Path(__file__).with_name(layout.VALIDATE)}
    sources |= {p.relative_to(work).as_posix(): p for p in sorted(work.rglob("*")) if p.is_file()}
    sources |= {f"{layout.MODEL}/{name}": inside(folder, name) for name in (NAME, *manifest.files)}
    files: dict[str, FileEntry] = {}
    for done, (name, source) in enumerate(sources.items()):
        progress("copying", done, len(sources))
        files[name] = add(name, source)
        if files[name] != manifest.files.get(name.removeprefix(f"{layout.MODEL}/"), files[name]):
            raise mismatch(source)
    progress("copying", len(sources), len(sources))
    return files
