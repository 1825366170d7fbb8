r"""Overlapping windows of one long text: each token but the first is predicted exactly once, with context.

    tokens    t0 t1 t2 t3 t4 t5 t6 t7 t8             window = 4, stride = 2
    window 0 [t0 t1 t2 t3]                           predicts    t1 t2 t3
    window 1       [t2 t3 t4 t5]                     predicts    t4 t5
    window 2             [t4 t5 t6 t7]               predicts    t6 t7
    window 3                   [t6 t7 t8]            predicts    t8

After the first window every token has at least window - stride tokens before it. The loss is the mean over all
predicted tokens. With stride = window only the first token of each window has no context and would be lost, so
the stride is at most window - 1.

Source: the sliding-window evaluation of the Hugging Face guide "Perplexity of fixed-length models".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from dareq_edge.errors import DataError, SpecError
from dareq_runtime.tokens import TokenSet, Unit
from dareq_runtime.windows import DEFAULT_WINDOW, Weighting, Window, fit_window, single_text


@dataclass(frozen=True, slots=True)
class Strided:
    """See the module's docstring.

    Attributes:
        window: Tokens per window; ``None`` is 2048 or the model's context if that is shorter.
        stride: Tokens between the starts of two windows; ``None`` is half a window.
    """

    unit: ClassVar[Unit] = "text"
    weighting: ClassVar[Weighting] = "token"
    window: int | None = None
    stride: int | None = None

    def resolved(self, context_length: int) -> Self:
        """See ``WindowProtocol``."""
        window = fit_window(self.window, DEFAULT_WINDOW, context_length)
        stride = max(1, window // 2) if self.stride is None else self.stride
        if not 1 <= stride < window:
            raise SpecError(f"stride is {stride}; use 1 to {window - 1}, less than the window")
        return replace(self, window=window, stride=stride)

    def windows(self, tokens: TokenSet) -> list[Window]:
        """See ``WindowProtocol``."""
        ids = single_text(tokens)
        size = self.window or DEFAULT_WINDOW
        stride = self.stride or size // 2
        if len(ids) < 2:
            raise DataError(f"{tokens.source} has {len(ids)} tokens; at least 2 are needed to predict one")
        found, start, done = [], 0, 1
        while done < len(ids):
            end = min(start + size, len(ids))
            found.append(Window(ids[start:end], done - start, 0, start))
            start, done = start + stride, end
        return found


PROTOCOL = Strided
