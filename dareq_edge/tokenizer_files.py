"""Which files of a model folder belong to its tokenizer, and how they are copied. Standard library only."""

from __future__ import annotations

import shutil
from pathlib import Path

from dareq_edge.errors import CheckpointError
from dareq_edge.folders import inside

PATTERNS = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "chat_template.*",
)


def tokenizer_files(folder: Path) -> list[Path]:
    """The tokenizer files in a model folder, sorted; empty when it has none.

    Raises:
        CheckpointError: One is a link that leads out of the folder, so that a copy of it might give away a secret.
    """
    found = sorted({path for pattern in PATTERNS for path in folder.glob(pattern) if path.is_file()})
    return [inside(folder, path.name, CheckpointError) for path in found]


def copy_tokenizer(source: Path, out: Path) -> list[Path]:
    """Copy the tokenizer files of ``source`` into ``out``, and return the copies."""
    return [Path(shutil.copyfile(path, out / path.name)) for path in tokenizer_files(source)]
