"""Which text a model is scored on, decided and read before any long work starts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import dareq_edge

if TYPE_CHECKING:
    from dareq_runtime import TokenSet
    from dareq_runtime.windows import WindowProtocol

EMBEDDED_TEXT = Path(dareq_edge.__file__).with_name("data") / "inaugural-addresses.txt"
"""US presidential inaugural addresses, 1789 to 1833: public domain, shipped with the package."""


@dataclass(frozen=True, slots=True)
class DataChoice:
    """The user's choice of text and windows; see the options of the same names."""

    dataset: str | None = None
    text: Path | None = None
    tokens: Path | None = None
    max_tokens: int | None = None
    protocol: str = "gptq"
    window: int | None = None
    stride: int | None = None

    @property
    def given(self) -> bool:
        """Whether the user named any text."""
        return (self.dataset, self.text, self.tokens) != (None, None, None)


def example(name: str) -> Path | None:
    """A file or folder under examples/ of the checkout this package runs from; ``None`` when it is not there."""
    path = Path(dareq_edge.__file__).resolve().parents[1] / "examples" / name
    return path if path.exists() else None


def read_evaluation(choice: DataChoice, folder: Path) -> tuple[TokenSet, WindowProtocol]:
    """Read the text, with the tokenizer in a model's folder; the embedded text when none is named.

    Args:
        choice: What the user asked for.
        folder: A model folder, float, quantized or exported.

    Raises:
        SpecError: An option cannot work.
        DataError: The text cannot be read, or there is no tokenizer to read it with.
    """
    from dareq_runtime.tokenizer import read_tokenizer
    from dareq_runtime.tokens import read_tokens
    from dareq_runtime.windows import make_protocol

    protocol = make_protocol(choice.protocol, window=choice.window, stride=choice.stride)
    if not choice.given:
        choice = replace(choice, text=EMBEDDED_TEXT)
    tokens = read_tokens(
        text=choice.text,
        tokens=choice.tokens,
        dataset=choice.dataset,
        tokenizer=None if choice.tokens is not None else read_tokenizer(folder),
        unit=protocol.unit,
    )
    return _limit(tokens, choice.max_tokens), protocol


def _limit(tokens: TokenSet, most: int | None) -> TokenSet:
    """The first ``most`` tokens; whole lines for a token set of lines."""
    if most is None or len(tokens) <= most:
        return tokens
    count, left = 0, most
    for ids in tokens.sequences:
        if count and len(ids) > left:
            break
        count, left = count + 1, left - len(ids)
    keep = slice(0, most) if count == 1 else slice(None)
    sizes = tokens.token_bytes
    return replace(
        tokens,
        sequences=tuple(ids[keep] for ids in tokens.sequences[:count]),
        token_bytes=None if sizes is None else tuple(x[keep] for x in sizes[:count]),
    )
