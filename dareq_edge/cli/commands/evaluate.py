"""dareq-edge eval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.cli import console, options
from dareq_edge.cli.evaluation import DataChoice, read_evaluation

if TYPE_CHECKING:
    from dareq_edge.progress import Progress
    from dareq_runtime.scorer import Scorer


def evaluate(
    model: options.Model,
    dataset: options.Dataset = None,
    text: options.TextFile = None,
    tokens: options.TokensFile = None,
    max_tokens: options.MaxTokens = None,
    protocol: options.Protocol = "gptq",
    window: options.Window = None,
    stride: options.Stride = None,
    compute: options.ComputeIn = "int8",
    threads: options.RunThreads = None,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    json: options.Json = False,
) -> None:
    """Perplexity of an exported folder (onnxruntime), or of a float or quantized checkpoint (PyTorch, fp32).

    \b
    Examples:
      dareq-edge eval opt-125m-int4 --dataset wikitext-2-raw-v1
      dareq-edge eval opt-125m-int4 --text wiki.test.raw --protocol strided --window 1024 --stride 512
      dareq-edge eval facebook/opt-125m --text notes.txt --max-tokens 20000
      dareq-edge eval stories-int4 --tokens eval_tokens.npy --compute fp32 --json
    """
    from dareq_edge.cli.tables import score_table
    from dareq_edge.manifest import is_exported
    from dareq_runtime.scoring import score

    choice = DataChoice(dataset, text, tokens, max_tokens, protocol, window, stride)
    if not choice.given:
        console.note("no text given: scoring on the embedded evaluation text")
    with console.progress_bars() as progress:
        if is_exported(Path(model)):
            import dareq_runtime

            read, windows = read_evaluation(choice, Path(model))
            scorer: Scorer = dareq_runtime.load(model, compute=compute, threads=options.run_threads(threads))
        else:
            number = None if threads in (None, options.MEASURED) else int(threads)
            folder = fetch(model, revision, number, trust_remote_code=trust_remote_code)
            read, windows = read_evaluation(choice, folder)
            scorer = reference(folder, progress, trust_remote_code=trust_remote_code)
        report = score(scorer, read, windows, progress=progress)
    console.result(report.to_json(), score_table([report]), as_json=json)


def fetch(model: str, revision: str | None, threads: int | None, *, trust_remote_code: bool) -> Path:
    """The local folder of a checkpoint."""
    console.quiet_libraries(threads)
    from dareq_edge.checkpoint import Checkpoint

    return Checkpoint.open(model, revision, trust_remote_code=trust_remote_code).folder


def reference(folder: Path, progress: Progress, *, trust_remote_code: bool) -> Scorer:
    """The torch scorer of a checkpoint folder."""
    from dareq_edge.reference import load_reference

    return load_reference(folder, trust_remote_code=trust_remote_code, progress=progress)
