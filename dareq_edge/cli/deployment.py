"""deploy: quantize, export, compare and only then put the folder in its place."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.allocation.bytes import format_bytes
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.cli.cache import ranges_for
from dareq_edge.cli.deployment_report import Evidence, gather
from dareq_edge.cli.evaluation import DataChoice, read_evaluation
from dareq_edge.cli.side_by_side import side_by_side
from dareq_edge.errors import AllocationError, ParityError
from dareq_edge.folders import new_folder
from dareq_edge.manifest import NAME, Manifest
from dareq_edge.packed import pack_folder
from dareq_edge.packed.packing import SUFFIX
from dareq_edge.plan import QuantOptions
from dareq_edge.progress import Progress, silent
from dareq_edge.quantize import Planner, quantize_checkpoint, unfinished
from dareq_edge.reference import load_reference
from dareq_edge.tokenizer_files import tokenizer_files

if TYPE_CHECKING:
    from dareq_edge.cli.options import CacheBits, ProfileName
    from dareq_edge.recipes import Recipe
    from dareq_edge.reporting.records import Samples
    from dareq_runtime.verdict import ParityReport

PARITY_FILE = "parity.json"
SAMPLE_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Job:
    """What to deploy and how.

    Attributes:
        source: A local folder or a hub id.
        out: Folder to create.
        options: How to quantize.
        recipe: What decides codes and scales.
        data: What to score on; ``None`` skips parity.
        revision: Branch, tag or commit on the hub.
        overwrite: Replace ``out`` if it exists.
        keep_failed: Put the folder in place even if parity fails.
        trust_remote_code: Let transformers run code that comes with the model.
        prompt: Start of the sample that is generated at the end; empty for none.
        threads: Threads of onnxruntime; PyTorch's are set by the caller.
        profile: Form of the exported weights and names of the files.
        cache_bits: Bits of keys and values in the exported model.
        pack: Entropy-code the folder once all else is done.
        plan: Makes the plan in place of bits and groups in ``options``.
        max_bytes: Most that graph and data may take together; what exceeds it is not put in its place.
        coded: Whether that is meant of the packed folder.
        evidence: Gather what a report shows beside the scores.
    """

    source: str
    out: Path
    options: QuantOptions
    recipe: Recipe
    data: DataChoice | None
    revision: str | None = None
    overwrite: bool = False
    keep_failed: bool = False
    trust_remote_code: bool = False
    prompt: str = ""
    threads: int | None = None
    profile: ProfileName = "native"
    cache_bits: CacheBits = "32"
    pack: bool = False
    plan: Planner | None = None
    max_bytes: int | None = None
    coded: bool = False
    evidence: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """What came out.

    Attributes:
        out: The folder.
        before: Bytes of the source's weight files.
        after: Bytes of the graph and its data.
        folder: Bytes of the whole exported folder.
        packed: Bytes of the folder as it was left, in containers; ``None`` if it was not packed.
        report: Parity; ``None`` if it was skipped.
        prompt: What the sample continues.
        sample: Generated words; ``None`` without a tokenizer.
        evidence: For a report, if it was asked for.
    """

    out: Path
    before: int
    after: int
    folder: int
    report: ParityReport | None
    prompt: str
    sample: str | None
    packed: int | None = None
    evidence: Evidence | None = None

    def to_json(self) -> dict[str, object]:
        """A plain dict, for ``json.dumps``."""
        return {
            "out": str(self.out),
            "bytes": {
                "source_weights": self.before,
                "onnx_weights": self.after,
                "onnx_folder": self.folder,
                "packed_folder": self.packed,
            },
            "parity": None if self.report is None else self.report.to_json(),
            "prompt": self.prompt,
            "sample": self.sample,
        }


class RejectedError(ParityError):
    """Parity failed, so no folder was left; ``deployment`` is what it would have been."""

    def __init__(self, deployment: Deployment) -> None:
        reasons = deployment.report.reasons if deployment.report else ()
        super().__init__(f"{'; '.join(reasons)}; {deployment.out} was not written (--keep-failed keeps it)")
        self.deployment = deployment


def deploy_model(job: Job, progress: Progress = silent) -> Deployment:
    """Run the whole line; ``job.out`` appears when everything passed, or not at all.

    Raises:
        RejectedError: Parity failed and ``keep_failed`` is false.
        DareqError: Any stage's own error; nothing is left behind.
    """
    checkpoint = Checkpoint.open(job.source, job.revision, trust_remote_code=job.trust_remote_code)
    if job.data is not None:
        _check_data(job.data, checkpoint)
    with new_folder(job.out, overwrite=job.overwrite) as scratch:
        work = scratch / "work"
        quantize_checkpoint(
            job.source,
            work / "checkpoint",
            job.options,
            job.recipe,
            plan=job.plan,
            revision=job.revision,
            trust_remote_code=job.trust_remote_code,
            work=unfinished(job.out),
            progress=progress,
        )
        manifest = _export(work, job, progress)
        report, samples = (
            (None, None) if job.data is None else _compare(job, job.data, checkpoint.folder, work, progress)
        )
        evidence = gather(job, checkpoint, manifest, work / "checkpoint", samples, progress) if job.evidence else None
        shutil.rmtree(unfinished(job.out), ignore_errors=True)
        found = Deployment(
            out=job.out,
            before=sum(p.stat().st_size for p in {t.file for t in checkpoint.tensors.values()}),
            after=manifest.graph_bytes,
            folder=sum(e.bytes for e in manifest.files.values()),
            report=report,
            prompt=job.prompt,
            sample=_sample(job, work / "onnx"),
            evidence=evidence,
        )
        if report is not None:
            if not report.passed and not job.keep_failed:
                raise RejectedError(found)
            (work / "onnx" / PARITY_FILE).write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
            manifest.with_files(work / "onnx").with_scores(report.scores).write(work / "onnx")
        final = work / "onnx"
        _check_size(job, manifest.graph_bytes, packed=False)
        if job.pack:
            packed = pack_folder(final, work / "packed", progress=progress)
            _check_size(job, model_bytes(packed), packed=True)
            final, found = work / "packed", replace(found, packed=sum(e.bytes for e in packed.files.values()))
        for path in final.iterdir():
            path.rename(scratch / path.name)
        shutil.rmtree(work)
    return found


def model_bytes(packed: Manifest) -> int:
    """Bytes of a packed folder's graph and containers of tensors: what --max-size is about."""
    containers = [packed.files[f"{name}{SUFFIX}"] for name in packed.packed if name != NAME]
    return packed.files[packed.graph].bytes + sum(entry.bytes for entry in containers)


def _check_size(job: Job, size: int, *, packed: bool) -> None:
    """Refuse what is larger than was asked for, which estimates before the work are meant to prevent."""
    if job.max_bytes is not None and packed == job.coded and size > job.max_bytes:
        raise AllocationError(
            f"the model came to {format_bytes(size)}, more than --max-size {format_bytes(job.max_bytes)}, and was "
            "not written; ask for that much less"
        )


def _check_data(data: DataChoice, checkpoint: Checkpoint) -> None:
    """Cut the windows once before the long work, so that a wrong option or text costs nothing."""
    tokens, protocol = read_evaluation(data, checkpoint.folder)
    tokens.check(int(checkpoint.config.get_text_config().vocab_size))
    protocol.resolved(checkpoint.context_length).windows(tokens)


def _export(work: Path, job: Job, progress: Progress) -> Manifest:
    from dareq_export import export_onnx

    ranges = ranges_for(job.cache_bits, progress)
    checkpoint = work / "checkpoint"
    return export_onnx(checkpoint, work / "onnx", profile=job.profile, cache_ranges=ranges, progress=progress)


def _compare(
    job: Job, data: DataChoice, source: Path, work: Path, progress: Progress
) -> tuple[ParityReport, Samples | None]:
    """Parity of the whole chain; and what each model makes of the prompt, if a report will show it."""
    import dareq_runtime
    from dareq_runtime.parity import chain, compare

    tokens, protocol = read_evaluation(data, source)
    exact = dareq_runtime.load(work / "onnx", compute="fp32", threads=job.threads, verify=False)
    scorers, links = chain(
        original=load_reference(source, trust_remote_code=job.trust_remote_code, progress=progress),
        quantized=load_reference(work / "checkpoint", trust_remote_code=job.trust_remote_code, progress=progress),
        fp32=exact,
        int8=dareq_runtime.load(work / "onnx", compute="int8", threads=job.threads, verify=False),
        cache_bits=int(job.cache_bits),
    )
    report = compare(scorers, links, tokens, protocol, progress=progress)
    if not job.evidence:
        return report, None
    return report, side_by_side(scorers, work / "onnx", job.prompt, exact.folder.stop_ids)


def _sample(job: Job, folder: Path) -> str | None:
    """A few generated words."""
    import dareq_runtime

    if not job.prompt or not tokenizer_files(folder):
        return None
    model = dareq_runtime.load(folder, threads=job.threads, verify=False)
    room = model.context_length - len(model.encode(job.prompt))
    if room < 1:
        return None
    count = min(SAMPLE_TOKENS, room)
    return model.generate(job.prompt, max_new_tokens=count, temperature=0.8, top_k=40, seed=0).text
