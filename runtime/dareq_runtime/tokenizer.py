"""Text in and out, with the ``tokenizers`` library alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from dareq_edge.errors import ArtifactError


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's tokenizer: tokenizer.json, else byte-level BPE from vocab.json and merges.txt, else ``None``.

    Raises:
        ArtifactError: The files cannot be read.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return _from_bpe_files(folder)
    except Exception as error:  # tokenizers raises bare Exception
        raise ArtifactError(f"the tokenizer in {folder} cannot be read ({error}); copy it again") from error
    return None


def byte_level_bpe(vocab: Path, merges: Path, bos: str | None = None) -> Tokenizer:
    """GPT-2's kind of tokenizer, from its two files.

    Args:
        vocab: vocab.json.
        merges: merges.txt.
        bos: Token that starts every text, e.g. OPT's "</s>"; ``None`` for none.

    Raises:
        KeyError: ``bos`` is not in the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    known = [t for t in ("<s>", "<pad>", "</s>", "<unk>", "<|endoftext|>") if tokenizer.token_to_id(t) is not None]
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in known])
    if bos is not None:
        number = tokenizer.token_to_id(bos)
        if number is None:
            raise KeyError(bos)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, number)]
        )
    return tokenizer


def _from_bpe_files(folder: Path) -> Tokenizer:
    """Byte-level BPE; tokenizer_config.json says whether a text starts with a special token."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    bos = config.get("bos_token")
    text = bos.get("content") if isinstance(bos, dict) else bos
    return byte_level_bpe(folder / "vocab.json", folder / "merges.txt", text if config.get("add_bos_token") else None)


class TextStream:
    """Text of a growing list of ids, given out as soon as it is certain.

    A character may be split over several byte-level tokens; its bytes are held back until it is whole.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = decoders.DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._given = ""

    def add(self, token: int) -> str:
        """Text that this token completes; often the token's own, sometimes empty."""
        self._ids.append(token)
        piece: str = self._stream.step(self._tokenizer, token) or ""
        self._given += piece
        return piece

    def finish(self) -> str:
        """What was held back: an incomplete character at the end."""
        whole = decode(self._tokenizer, self._ids)
        return whole[len(self._given) :]


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of ids without special tokens."""
    text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    return text
