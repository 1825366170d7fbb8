r"""The published protocol: non-overlapping windows of one long text, each from a fresh start.

    tokens    t0 t1 t2 t3 t4 t5 t6 t7 t8 t9          window = 4
    window 0 [t0 t1 t2 t3]                           predicts    t1 t2 t3
    window 1             [t4 t5 t6 t7]               predicts    t5 t6 t7
    dropped                          t8 t9           less than a window

The first token of each window is never predicted. The loss is the mean over windows of the mean loss of their
window - 1 predicted tokens, which is the mean over all predicted tokens as the windows are equally long.
The text is the data set's rows joined by two newlines (``tokens.read_tokens``).

Source: IST-DASLab/gptq@2d65066, datautils.py (get_wikitext2) and opt.py (opt_eval). There the sum is divided by
nsamples * seqlen although seqlen - 1 tokens are predicted of each window's *mean* loss, which cancels out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from dareq_edge.errors import DataError
from dareq_runtime.tokens import TokenSet, Unit
from dareq_runtime.windows import DEFAULT_WINDOW, Weighting, Window, fit_window, single_text


@dataclass(frozen=True, slots=True)
class Gptq:
    """See the module's docstring.

    Attributes:
        window: Tokens per window; ``None`` is 2048 or the model's context if that is shorter.
    """

    unit: ClassVar[Unit] = "text"
    weighting: ClassVar[Weighting] = "token"
    window: int | None = None

    def resolved(self, context_length: int) -> Self:
        """See ``WindowProtocol``."""
        return replace(self, window=fit_window(self.window, DEFAULT_WINDOW, context_length))

    def windows(self, tokens: TokenSet) -> list[Window]:
        """See ``WindowProtocol``."""
        ids = single_text(tokens)
        size = self.window or DEFAULT_WINDOW
        if len(ids) < size:
            raise DataError(
                f"{tokens.source} has {len(ids)} tokens, less than one window of {size}; "
                "use a longer text, a smaller --window, or --protocol strided"
            )
        return [Window(ids[s : s + size], 1, 0, s) for s in range(0, len(ids) - size + 1, size)]


PROTOCOL = Gptq
