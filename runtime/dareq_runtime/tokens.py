r"""Token sets: what is scored, from a text file, a file of ids, or a named data set.

How a text file becomes a text (``layout``):

    rows    one data set row per line, as in the WikiText files: a line that is not blank keeps its line end, a
            blank one becomes the empty row, and rows are joined by two newlines:
            "a\n \nb\n"  ->  ["a\n", "", "b\n"]  ->  "a\n\n\n\n\nb\n"
    plain   the text as it is
    auto    rows for a file named *.raw, plain for any other

``rows`` is how the published counts come about: wiki.test.raw gives 287,644 GPT-2 tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from dareq_edge.errors import DataError, SpecError
from dareq_edge.npy import read_npy
from dareq_runtime import hub
from dareq_runtime.tokenizer import encode

Unit = Literal["text", "lines"]
Layout = Literal["auto", "plain", "rows"]


@dataclass(frozen=True, slots=True, eq=False)
class TokenSet:
    """Tokens to score.

    Attributes:
        sequences: int64 [T_i] each; one for a text, one per non-blank line for lines.
        source: Where they are from, for messages.
        unit: "text" or "lines".
        token_bytes: int64 [T_i] each: UTF-8 bytes of text that each token stands for (0 for special tokens);
            ``None`` when only ids were given.
    """

    sequences: tuple[NDArray[np.int64], ...]
    source: str
    unit: Unit = "text"
    token_bytes: tuple[NDArray[np.int64], ...] | None = None

    def __len__(self) -> int:
        return sum(len(s) for s in self.sequences)

    def check(self, vocab_size: int) -> None:
        """Check that a model with this vocabulary has a row for every id.

        Raises:
            DataError: An id is out of range (the runtime would silently embed it as zeros).
        """
        for ids in self.sequences:
            bad = ids[(ids < 0) | (ids >= vocab_size)]
            if len(bad):
                raise DataError(
                    f"{self.source} holds token id {bad[0]} but the model's vocabulary is {vocab_size}; "
                    "use the tokens of this model's own tokenizer"
                )


def read_tokens(
    *,
    text: Path | None = None,
    tokens: Path | None = None,
    dataset: str | None = None,
    tokenizer: Tokenizer | None = None,
    unit: Unit = "text",
    layout: Layout = "auto",
) -> TokenSet:
    """Read exactly one of ``text``, ``tokens`` and ``dataset``.

    Args:
        text: UTF-8 text file.
        tokens: ``.npy`` file with a 1-D array of token ids.
        dataset: Name in ``hub.DATASETS``, e.g. "wikitext-2-raw-v1"; needs a network or a filled cache.
        tokenizer: The model's; not needed for ``tokens``.
        unit: What the protocol wants (``WindowProtocol.unit``).
        layout: How a text file becomes a text; see the module's docstring.

    Raises:
        SpecError: Not exactly one source is given, or an option has an unknown value.
        DataError: The source cannot be read or the tokenizer is missing.
    """
    if sum(x is not None for x in (text, tokens, dataset)) != 1:
        raise SpecError("give exactly one of --text FILE, --tokens FILE.npy and --dataset NAME")
    if tokens is not None:
        return _from_ids(tokens, unit)
    source = str(text or dataset)
    if tokenizer is None:
        raise DataError(f"the model has no tokenizer, so {source} cannot be tokenized; use --tokens FILE.npy")
    if text is not None:
        content = _read(text)
        rows = split_rows(content)
        joined = "\n\n".join(rows) if _is_rows(text, layout) else content
    else:
        rows = hub.load_rows(str(dataset))
        joined = "\n\n".join(rows)
    pieces = [joined] if unit == "text" else [r.removesuffix("\n") for r in rows if r.strip()]
    return tokenize(pieces, tokenizer, source=source, unit=unit)


def split_rows(content: str) -> list[str]:
    r"""Lines as data set rows: ``"a\n"`` for a line, ``""`` for a blank one."""
    lines = content.removesuffix("\n").split("\n")
    return [f"{line}\n" if line.strip() else "" for line in lines]


def tokenize(pieces: list[str], tokenizer: Tokenizer, *, source: str, unit: Unit) -> TokenSet:
    """Encode texts, with the tokenizer's own leading special token if it has one.

    Raises:
        DataError: There is no text.
    """
    if not any(p.strip() for p in pieces):
        raise DataError(f"{source} holds no text; give another file")
    ids, sizes = [], []
    for piece in pieces:
        encoding = encode(tokenizer, piece)
        ids.append(np.asarray(encoding.ids, dtype=np.int64))
        sizes.append(_bytes_per_token(encoding, piece))
    return TokenSet(tuple(ids), source, unit, tuple(sizes))


def _bytes_per_token(encoding: Encoding, text: str) -> NDArray[np.int64]:
    """UTF-8 bytes of each token: from the end of the one before, so that skipped white space counts once."""
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    widths = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    ends_in_bytes = np.concatenate([[0], np.cumsum(widths)])
    ends = np.array([end for _, end in encoding.offsets], dtype=np.int64)
    reached = np.maximum.accumulate(ends_in_bytes[ends]) if len(ends) else ends
    return np.diff(reached, prepend=0)


def _is_rows(path: Path, layout: Layout) -> bool:
    if layout not in ("auto", "plain", "rows"):
        raise SpecError(f"layout is {layout!r}; use auto, plain or rows")
    return layout == "rows" or (layout == "auto" and path.suffix == ".raw")


def _read(path: Path) -> str:
    """A text file's content; line ends become newlines."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise DataError(f"there is no text file {path}; check --text") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); convert it first") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check --text") from error


def _from_ids(path: Path, unit: Unit) -> TokenSet:
    """Token ids from a .npy file."""
    if unit == "lines":
        raise DataError(f"{path} is one run of tokens but the protocol needs lines; use --text FILE")
    try:
        ids = read_npy(path)
    except FileNotFoundError as error:
        raise DataError(f"there is no token file {path}; check --tokens") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a .npy file of token ids ({error}); write it with numpy.save") from error
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not len(ids):
        raise DataError(f"{path} holds {ids.dtype} {ids.shape}; expected a non-empty 1-D array of int64 token ids")
    return TokenSet((ids.astype(np.int64),), str(path))
