"""Calibration text: windows of tokens from a text file or from token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from dareq_edge.errors import DataError
from dareq_edge.npy import read_npy
from dareq_edge.recipes import Source
from dareq_edge.tokenizer_files import tokenizer_files


def read_tokens(source: Source, path: str | Path) -> NDArray[np.int64]:
    """Token ids of a calibration file.

    Args:
        source: The model; its folder holds the tokenizer.
        path: A ``.npy`` of token ids, or UTF-8 text that the model's tokenizer encodes as a whole.

    Returns:
        int64 [M].

    Raises:
        DataError: The file cannot be read, holds no token ids of this model, or the tokenizer does not load.
    """
    path = Path(path)
    ids = _saved_ids(path) if path.suffix == ".npy" else _encode(source, path)
    size = int(source.checkpoint.config.get_text_config(decoder=True).vocab_size)
    wrong = ids[(ids < 0) | (ids >= size)]
    if len(wrong):
        raise DataError(
            f"{path} gives token {wrong[0]}, but the model's vocabulary has {size}; use this model's own tokenizer"
        )
    return ids.astype(np.int64, copy=False)


def sample_windows(ids: NDArray[np.int64], length: int, count: int, seed: int) -> torch.Tensor:
    """Windows that begin anywhere, drawn with replacement, as GPTQ's (IST-DASLab/gptq@2d65066 ``datautils.py``).

    Args:
        ids: int64 [M].
        length: T.
        count: S.
        seed: Decides where windows begin.

    Returns:
        int64 [S, T].

    Raises:
        DataError: The text is shorter than a window.
    """
    if len(ids) < length:
        raise DataError(
            f"the calibration text has {len(ids)} tokens, fewer than one window of {length}; give a longer text or a "
            "smaller sample_length"
        )
    starts = np.random.default_rng(seed).integers(0, len(ids) - length + 1, size=count)
    return torch.from_numpy(np.stack([ids[i : i + length] for i in starts]))


def load_tokenizer(source: Source) -> object:
    """The tokenizer in the model's folder.

    Raises:
        DataError: There is none, or it does not load.
    """
    folder = source.checkpoint.folder
    if not tokenizer_files(folder):
        raise DataError(f"{folder} has no tokenizer; copy its files there, or give token ids as a .npy file")
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=source.trust_remote_code)
    except Exception as error:  # tokenizers raise many unrelated classes
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(
            f"the tokenizer in {folder} does not load ({first}); repair its files, or give token ids as a .npy file"
        ) from error


def _encode(source: Source, path: Path) -> NDArray[np.int64]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"calibration text {path} cannot be read ({error}); give a UTF-8 text file") from error
    tokenizer = load_tokenizer(source)
    assert callable(tokenizer)
    found: Sequence[int] = tokenizer(text, verbose=False)["input_ids"]  # silent about the text's length
    return np.asarray(found, dtype=np.int64)


def _saved_ids(path: Path) -> NDArray[np.int64]:
    try:
        ids = read_npy(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as token ids ({error}); save whole numbers with numpy.save"
        ) from error
    if ids.dtype.kind not in "iu":
        raise DataError(f"{path} holds {ids.dtype}; token ids must be whole numbers")
    return ids.reshape(-1)
