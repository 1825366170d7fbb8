r"""Each non-empty line alone: short independent texts, as the DARE-Q paper's perplexities seem to have been taken.

    line 0   t0 t1 t2 t3 t4 t5                        window = 4
    window 0 [t0 t1 t2 t3]                            predicts    t1 t2 t3      truncated
    line 1   (blank)                                  skipped
    line 2   t0 t1
    window 1 [t0 t1]                                  predicts    t1
    line 3   t0                                       skipped: nothing to predict

The loss is the mean over lines of each line's own mean loss, so a short line weighs as much as a long one. It is
much higher than with long windows: most tokens have little context.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from dareq_edge.errors import DataError
from dareq_runtime.tokens import TokenSet, Unit
from dareq_runtime.windows import Weighting, Window, fit_window

TRUNCATION = 512


@dataclass(frozen=True, slots=True)
class Lines:
    """See the module's docstring.

    Attributes:
        window: Tokens of a line that are kept; ``None`` is 512 or the model's context if that is shorter.
    """

    unit: ClassVar[Unit] = "lines"
    weighting: ClassVar[Weighting] = "window"
    window: int | None = None

    def resolved(self, context_length: int) -> Self:
        """See ``WindowProtocol``."""
        return replace(self, window=fit_window(self.window, TRUNCATION, context_length))

    def windows(self, tokens: TokenSet) -> list[Window]:
        """See ``WindowProtocol``."""
        if tokens.unit != "lines":
            raise DataError(f"{tokens.source} is one run of tokens but protocol 'lines' needs lines; use --text FILE")
        found = [Window(ids[: self.window], 1, i, 0) for i, ids in enumerate(tokens.sequences) if len(ids) > 1]
        if not found:
            raise DataError(f"{tokens.source} has no line with 2 tokens or more; nothing can be predicted")
        return found


PROTOCOL = Lines
