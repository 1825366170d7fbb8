"""The report of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.cli.evidence import attempt, entropies_of, fp32_row
from dareq_edge.cli.origins import origin_of
from dareq_edge.progress import silent
from dareq_edge.reporting.records import Report, Samples, SizeRow, Verdict

if TYPE_CHECKING:
    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.cli.comparison import Request
    from dareq_edge.cli.pages import Page
    from dareq_edge.comparison.records import Comparison


def comparison_report(page: Page, request: Request, found: Comparison) -> Report:
    """The record of the page.

    Args:
        page: Names the command.
        request: What was asked for.
        found: What came out.
    """
    from dareq_edge.allocation.sizes import parameter_count
    from dareq_edge.checkpoint import Checkpoint

    trusted = request.trust_remote_code
    source = Checkpoint.open(request.model, request.revision, trust_remote_code=trusted)
    absent = {"Residual histograms and scales": "they are of one checkpoint; see parity and deploy"}
    samples = _samples(request, source, found)
    if samples is None:
        absent["Generated text"] = "there is no prompt, no tokenizer, or the rows were finished before without one"
    parameters = parameter_count(source.empty_model(trust_remote_code=trusted))
    return Report(
        command="compare",
        subject=Path(request.model).name or request.model,
        verdict=_verdict(found),
        origin=origin_of(page, source=source, folder=request.out, threads=request.threads),
        sizes=_sizes(found, parameters),
        entropies=attempt("Block entropies", absent, lambda: entropies_of(source, silent, trust_remote_code=trusted)),
        comparison=found,
        samples=samples,
        absent=absent,
    )


def _samples(request: Request, source: Checkpoint, found: Comparison) -> Samples | None:
    """What the models made of the prompt, the float model's first."""
    from dareq_edge.cli.comparison import read_prompt
    from dareq_edge.comparison.records import FLOAT

    prompt = read_prompt(request, source)
    order = [FLOAT, *(row.variant.label for row in found.rows)]
    if prompt is None or FLOAT not in found.continuations:
        return None
    return prompt.beside({label: found.continuations[label] for label in order if label in found.continuations})


def _verdict(found: Comparison) -> Verdict:
    count = len(found.rows)
    if found.failed:
        reasons = tuple(f"{row.variant.label}: {row.failed}" for row in found.failed)
        return Verdict("incomplete", f"{len(found.failed)} of {count} recipes failed.", reasons)
    return Verdict("measured", f"{count} recipes on the same tokens; measured, not judged.")


def _sizes(found: Comparison, parameters: int) -> tuple[SizeRow, ...]:
    rows = [
        fp32_row(parameters, f"{parameters:,} parameters of 4 bytes each"),
        SizeRow("float model, as stored", found.reference_bytes, "disk", "all tensors of its files"),
    ]
    for row in found.rows:
        if row.failed is None:
            made = row.production()
            rows.append(SizeRow(row.variant.label, made.weight_bytes, "disk", "all tensors of the checkpoint"))
            if made.coded_bytes is not None:
                note = "the same with every quantized matrix entropy-coded"
                rows.append(SizeRow(f"{row.variant.label}, coded", made.coded_bytes, "download", note))
    return tuple(rows)
