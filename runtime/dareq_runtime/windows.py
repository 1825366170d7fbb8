"""Windows: which tokens a model sees at once, and which of them it is asked to predict.

A protocol is one file under ``protocols/`` that defines ``PROTOCOL``, a frozen dataclass; nothing else changes to
add one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from dareq_edge import plugins
from dareq_edge.errors import DataError, SpecError
from dareq_runtime.tokens import TokenSet, Unit

PLUGINS = "dareq_runtime.protocols"
DEFAULT_WINDOW = 2048

Weighting = Literal["token", "window"]
"""What the mean loss is a mean of: all predicted tokens alike, or the windows' own means."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """One forward pass.

    Attributes:
        ids: int64 [T], a view into a sequence of the token set.
        first: Index of the first predicted token, 1 <= first < T; ``ids[first:]`` are predicted, each from
            everything before it in the window.
        sequence: Which sequence of the token set ``ids`` is from.
        start: Index of ``ids[0]`` in that sequence.
    """

    ids: NDArray[np.int64]
    first: int
    sequence: int
    start: int

    @property
    def predicted(self) -> int:
        """Number of predicted tokens."""
        return len(self.ids) - self.first


class WindowProtocol(Protocol):
    """How a token set is cut into windows."""

    @property
    def unit(self) -> Unit:
        """Whether it wants one long text or separate lines."""

    @property
    def weighting(self) -> Weighting:
        """What the mean loss is a mean of."""

    def resolved(self, context_length: int) -> Self:
        """This protocol with every default filled in for a model.

        Raises:
            SpecError: A window is longer than the model's context.
        """
        ...

    def windows(self, tokens: TokenSet) -> list[Window]:
        """The windows, in order; only on a resolved protocol.

        Raises:
            DataError: The token set has the wrong unit, or nothing in it can be predicted.
        """
        ...


def make_protocol(name: str, *, window: int | None = None, stride: int | None = None) -> WindowProtocol:
    """The protocol of that name; an option left ``None`` takes the protocol's default.

    Raises:
        SpecError: No such protocol, it has no such option, or a value is out of range.

    Example:
        >>> make_protocol("gptq").resolved(context_length=512)
        Gptq(window=512)
    """
    kind = plugins.load(PLUGINS, name).PROTOCOL
    known = {f.name for f in fields(kind)}
    given = {k: v for k, v in {"window": window, "stride": stride}.items() if v is not None}
    wrong = sorted(set(given) - known)
    if wrong:
        raise SpecError(f"protocol {name!r} has no {wrong[0]}; leave --{wrong[0]} out")
    return cast(WindowProtocol, kind(**given))


def describe(protocol: WindowProtocol) -> str:
    """Name and parameters, e.g. "gptq(window=2048)"."""
    name = type(protocol).__module__.rsplit(".", 1)[-1]
    values = (f"{f.name}={getattr(protocol, f.name)}" for f in fields(protocol))  # type: ignore[arg-type]
    return f"{name}({', '.join(values)})"


def fit_window(window: int | None, default: int, context_length: int) -> int:
    """The window to use: the given one, or the smaller of the default and the model's context.

    Raises:
        SpecError: The window is shorter than 2 or longer than the context.
    """
    if window is None:
        return min(default, context_length)
    if window < 2:
        raise SpecError(f"window is {window}; use at least 2 tokens")
    if window > context_length:
        raise SpecError(f"window is {window} but the model's context is {context_length} tokens; use a shorter one")
    return window


def single_text(tokens: TokenSet) -> NDArray[np.int64]:
    """The one sequence of a token set read as a text.

    Raises:
        DataError: It was read as lines.
    """
    if tokens.unit != "text":
        raise DataError(f"{tokens.source} was read line by line but this protocol needs one text; read it again")
    return tokens.sequences[0]
