"""The report of a deployment, of one whose parity failed too."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.cli.evidence import (
    attempt,
    entropies_of,
    folder_rows,
    fp32_row,
    memory_row,
    weights_of,
)
from dareq_edge.cli.origins import manifest_files, origin_of
from dareq_edge.manifest import Manifest
from dareq_edge.reporting.records import BlockEntropies, Report, Samples, SizeRow, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dareq_edge.cli.deployment import Deployment, Job
    from dareq_edge.cli.pages import Page
    from dareq_edge.progress import Progress
    from dareq_edge.reporting.statistics import WeightStats
    from dareq_runtime.verdict import ParityReport


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is gathered while everything is still there.

    Attributes:
        source: The float model.
        parameters: Its number of them.
        manifest: Of the exported folder, before it was packed.
        weights: Statistics of the quantized matrices.
        entropies: Of the float model's blocks.
        samples: Generated text.
        absent: Why one of these is missing.
    """

    source: Checkpoint
    parameters: int
    manifest: Manifest
    weights: WeightStats | None
    entropies: BlockEntropies | None
    samples: Samples | None
    absent: Mapping[str, str] = field(default_factory=dict)


def gather(
    job: Job, source: Checkpoint, manifest: Manifest, quantized: Path, samples: Samples | None, progress: Progress
) -> Evidence:
    """Measure what a report shows; one tensor at a time is in memory.

    Args:
        job: What was asked for.
        source: The float model.
        manifest: Of the exported folder.
        quantized: The quantized checkpoint.
        samples: Generated text, made while the models were loaded.
        progress: Called per matrix and block.
    """
    from dareq_edge.allocation.sizes import parameter_count

    trusted, absent = job.trust_remote_code, dict[str, str]()
    if samples is None:
        absent["Generated text"] = (
            "--no-eval loads no PyTorch model" if job.data is None else "there is no prompt, or no tokenizer"
        )
    if job.data is None:
        absent["Perplexity and parity"] = "--no-eval was given"
    return Evidence(
        source,
        parameter_count(source.empty_model(trust_remote_code=trusted)),
        manifest,
        attempt("Weights", absent, lambda: weights_of(quantized, source, progress, trust_remote_code=trusted)),
        attempt("Block entropies", absent, lambda: entropies_of(source, progress, trust_remote_code=trusted)),
        samples,
        absent,
    )


def deployment_report(page: Page, job: Job, found: Deployment, *, written: bool) -> Report:
    """The record of the page.

    Args:
        page: Names the command.
        job: What was asked for.
        found: What came out, with evidence.
        written: Whether the folder was put in its place.
    """
    evidence = found.evidence
    assert evidence is not None
    manifest = Manifest.read(found.out) if written else evidence.manifest
    parity = found.report
    return Report(
        command="deploy",
        subject=Path(job.source).name or job.source,
        verdict=_verdict(found, parity, written=written),
        origin=origin_of(
            page,
            source=evidence.source,
            folder=found.out,
            files=manifest_files(manifest, found.out if written else None),
            threads=job.threads,
        ),
        sizes=_sizes(job, found, evidence, manifest),
        scores=() if parity is None else parity.scores,
        links=() if parity is None else parity.links,
        weights=evidence.weights,
        entropies=evidence.entropies,
        samples=evidence.samples,
        absent=evidence.absent,
    )


def _verdict(found: Deployment, parity: ParityReport | None, *, written: bool) -> Verdict:
    if parity is None:
        return Verdict("measured", f"{found.out} was written without a check: perplexity and parity were skipped.")
    if parity.passed:
        return Verdict("passed", "Parity holds: what runs is what was quantized, within every link's tolerance.")
    kept = "was kept on request" if written else "was not written"
    return Verdict("FAILED", f"Parity is broken at {parity.broken}; {found.out} {kept}.", parity.reasons)


def _sizes(job: Job, found: Deployment, evidence: Evidence, manifest: Manifest) -> tuple[SizeRow, ...]:
    source = evidence.source
    return (
        fp32_row(evidence.parameters, f"{evidence.parameters:,} parameters of 4 bytes each"),
        SizeRow("float weights, as stored", found.before, "disk", "the source's weight files"),
        SizeRow("ONNX graph and data", found.after, "disk", "model.onnx and its data"),
        *folder_rows(manifest),
        memory_row(source.config, found.after, int(job.cache_bits)),
    )
