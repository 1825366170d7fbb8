"""Reports of eval and parity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.cli.evidence import (
    attempt,
    entropies_of,
    folder_rows,
    fp32_row,
    peak_row,
    stored_parameters,
    weights_of,
)
from dareq_edge.cli.origins import manifest_files, origin_of
from dareq_edge.manifest import Manifest
from dareq_edge.reporting.records import HashedFile, Report, SizeRow, Verdict

if TYPE_CHECKING:
    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.cli.pages import Page
    from dareq_edge.progress import Progress
    from dareq_edge.report import ScoreReport
    from dareq_edge.reporting.records import Samples
    from dareq_edge.reporting.statistics import WeightStats
    from dareq_runtime.verdict import ParityReport

_MEASURED = "Measured, not judged: this command compares with nothing."
_NO_CHECKPOINT = "an exported folder holds no codes by matrix that are read here; use parity --checkpoint, or deploy"


def exported_report(page: Page, folder: Path, score: ScoreReport, threads: int | str | None) -> Report:
    """Of eval on an exported folder.

    Args:
        page: Names the command.
        folder: What was scored.
        score: Its perplexity.
        threads: As asked for.
    """
    sizes, files = _exported(folder)
    return Report(
        command="eval",
        subject=folder.resolve().name,
        verdict=Verdict("measured", _MEASURED),
        origin=origin_of(page, folder=folder, files=files, threads=threads),
        sizes=sizes,
        scores=(score,),
        absent={"Weights": _NO_CHECKPOINT},
    )


def checkpoint_report(
    page: Page,
    checkpoint: Checkpoint,
    score: ScoreReport,
    progress: Progress,
    *,
    threads: int | None,
    trust_remote_code: bool,
) -> Report:
    """Of eval on a float or a quantized checkpoint.

    Args:
        page: Names the command.
        checkpoint: What was scored.
        score: Its perplexity.
        progress: Called per matrix and block.
        threads: As asked for.
        trust_remote_code: Let transformers run code that comes with the model.
    """
    from dareq_edge.allocation.sizes import parameter_count

    absent: dict[str, str] = {}
    weights = entropies = None
    if checkpoint.quantization is not None:
        weights = attempt(
            "Weights",
            absent,
            lambda: weights_of(checkpoint.folder, None, progress, trust_remote_code=trust_remote_code),
        )
        absent.setdefault("Weight error", "the float model is not known here; use parity --checkpoint --model")
    else:
        entropies = attempt(
            "Block entropies",
            absent,
            lambda: entropies_of(checkpoint, progress, trust_remote_code=trust_remote_code),
        )
    parameters = parameter_count(checkpoint.empty_model(trust_remote_code=trust_remote_code))
    stored = sum(path.stat().st_size for path in {t.file for t in checkpoint.tensors.values()})
    return Report(
        command="eval",
        subject=Path(checkpoint.source).name or checkpoint.source,
        verdict=Verdict("measured", _MEASURED),
        origin=origin_of(page, source=checkpoint, threads=threads),
        sizes=(
            fp32_row(parameters, f"{parameters:,} parameters of 4 bytes each"),
            SizeRow("weights, as stored", stored, "disk", "the checkpoint's weight files"),
        ),
        scores=(score,),
        weights=weights,
        entropies=entropies,
        absent=absent,
    )


def parity_page(
    page: Page,
    folder: Path,
    found: ParityReport,
    progress: Progress,
    *,
    original: Checkpoint | None,
    quantized: Path | None,
    samples: Samples | None,
    threads: int | None,
    trust_remote_code: bool,
) -> Report:
    """Of parity, whatever its verdict.

    Args:
        page: Names the command.
        folder: The exported model.
        found: The verdict.
        progress: Called per matrix and block.
        original: The float model, if it was given.
        quantized: Folder of the quantized checkpoint, if it was given.
        samples: Generated text.
        threads: As asked for.
        trust_remote_code: Let transformers run code that comes with the model.
    """
    absent: dict[str, str] = {}
    weights: WeightStats | None = None
    entropies = None
    if quantized is not None:
        place = quantized
        weights = attempt(
            "Weights", absent, lambda: weights_of(place, original, progress, trust_remote_code=trust_remote_code)
        )
    else:
        absent["Weights"] = "--checkpoint was not given"
    if original is None:
        absent["Weight error and block entropies"] = "--model was not given"
    else:
        model = original
        entropies = attempt(
            "Block entropies", absent, lambda: entropies_of(model, progress, trust_remote_code=trust_remote_code)
        )
    if samples is None:
        absent["Generated text"] = "there is no prompt, or no tokenizer"
    sizes, files = _exported(folder, measured=original is None and quantized is None)
    return Report(
        command="parity",
        subject=folder.resolve().name,
        verdict=_verdict(found),
        origin=origin_of(page, source=original, folder=folder, files=files, threads=threads),
        sizes=sizes,
        scores=found.scores,
        links=found.links,
        weights=weights,
        entropies=entropies,
        samples=samples,
        absent=absent,
    )


def _verdict(found: ParityReport) -> Verdict:
    if found.passed:
        return Verdict("passed", "Every link that was compared holds, within its tolerance.")
    return Verdict("FAILED", f"Parity is broken at {found.broken}.", found.reasons)


def _exported(folder: Path, *, measured: bool = True) -> tuple[tuple[SizeRow, ...], tuple[HashedFile, ...]]:
    """Sizes of an exported folder and its files; ``measured``: this process held nothing but it."""
    manifest = Manifest.read(folder)
    numbers = stored_parameters(manifest.tensors.values())
    base = fp32_row(numbers, f"{numbers:,} numbers in all tensors of dareq.json, of 4 bytes each")
    peak = peak_row() if measured else None
    rows = [base, *folder_rows(manifest), *([] if peak is None else [peak])]
    return tuple(rows), manifest_files(manifest, folder)
