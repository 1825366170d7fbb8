"""Text in and out, with the ``tokenizers`` library alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenizers import AddedToken, Encoding, Tokenizer, decoders, models, pre_tokenizers, processors

from dareq_edge.errors import ArtifactError, DareqError, DataError
from dareq_edge.records import read_bytes, read_json

LARGEST = 256 << 20
"""Bytes of the largest tokenizer.json; Gemma's, with 262,144 tokens, has 33 MB."""


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The folder's tokenizer: tokenizer.json, else byte-level BPE from vocab.json and merges.txt, else ``None``.

    Raises:
        ArtifactError: The files cannot be read.
    """
    with _in_words(f"the tokenizer in {folder} cannot be read", ArtifactError):
        if (folder / "tokenizer.json").is_file():
            return _plain(Tokenizer.from_buffer(read_bytes(folder / "tokenizer.json", LARGEST)))
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return _plain(_from_bpe_files(folder))
    return None


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    """Without the padding and truncation a file may ask for: text must neither lose nor gain tokens."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@contextmanager
def _in_words(what: str, kind: type[DareqError]) -> Iterator[None]:
    """One sentence for what tokenizers raises: bare Exceptions, and panics of Rust, which are not even those."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, DareqError) or not (isinstance(error, Exception) or "Panic" in type(error).__name__):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:240]
        raise kind(f"{what} ({reason}); copy it again") from error


def encode(tokenizer: Tokenizer, text: str) -> Encoding:
    """Tokens of a text, with the tokenizer's own leading special token if it has one.

    Raises:
        DataError: This tokenizer cannot express it.
    """
    with _in_words("the tokenizer cannot encode the text", DataError):
        return tokenizer.encode(text)


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
    config = read_json(path) if path.is_file() else {}
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
        with _in_words("the tokenizer cannot decode what was generated", ArtifactError):
            piece: str = self._stream.step(self._tokenizer, token) or ""
        self._given += piece
        return piece

    def finish(self) -> str:
        """What was held back: an incomplete character at the end."""
        whole = decode(self._tokenizer, self._ids)
        return whole[len(self._given) :]


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of ids without special tokens."""
    with _in_words("the tokenizer cannot decode what was generated", ArtifactError):
        text: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    return text
