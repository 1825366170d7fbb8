"""tokenizer.json for checkpoints that bring only a slow tokenizer's files, as facebook/opt-125m does."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dareq_edge.errors import ExportError
from dareq_edge.tokenizer_files import tokenizer_files

NAME = "tokenizer.json"


def write_fast_tokenizer(source: Path, out: Path) -> None:
    """Write ``out/tokenizer.json`` if ``source`` has a tokenizer without one; onnxruntime-genai reads nothing else.

    Args:
        source: A model folder; without tokenizer files nothing is written.
        out: The folder being written.

    Raises:
        ExportError: transformers cannot convert the tokenizer.
    """
    vocabulary = [p for p in tokenizer_files(source) if p.name in ("vocab.json", "vocab.txt") or p.suffix == ".model"]
    if (source / NAME).is_file() or not vocabulary:
        return
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise TypeError(f"{type(tokenizer).__name__} has no fast form")  # noqa: TRY301  # one sentence for both
    except Exception as error:  # converters raise many unrelated classes
        raise ExportError(
            f"the tokenizer in {source} cannot be converted to {NAME} ({error}); "
            "install sentencepiece, or take the tokenizer files out of the folder and score with --tokens"
        ) from error
    tokenizer.backend_tokenizer.save(str(out / NAME))
