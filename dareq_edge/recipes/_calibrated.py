"""What recipes share that are calibrated on text the user gives: the settings for it, and the tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch

from dareq_edge.blockwise.text import read_tokens, sample_windows
from dareq_edge.errors import SpecError
from dareq_edge.plan import QuantOptions
from dareq_edge.recipes import FILE, Source, _checks


@dataclass(frozen=True, slots=True)
class Calibrated:
    """See the module.

    Attributes:
        calibration: Text file, or ``.npy`` of token ids; required.
        samples: Windows of calibration text.
        sample_length: Tokens per window; at most the model's context.
        seed: Decides where windows begin.

    Raises:
        SpecError: A value cannot work.
    """

    calibration: str | None = field(default=None, metadata=FILE)
    samples: int = 48
    sample_length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        _checks.whole(self, "samples", "sample_length", least=1)
        _checks.whole(self, "seed")

    @property
    def label(self) -> str:
        """See ``Recipe``."""
        raise NotImplementedError

    def options(self, chosen: QuantOptions) -> QuantOptions:
        """See ``Recipe``."""
        return replace(chosen, method="rtn")

    def check(self, source: Source) -> None:
        """See ``Recipe``: reads and encodes the whole text."""
        self.windows(source)

    def windows(self, source: Source) -> torch.Tensor:
        """Calibration tokens int64 [S, T].

        Raises:
            SpecError: No text is given.
            DataError: It cannot be used.
        """
        if self.calibration is None:
            raise SpecError(
                f"{self.label} needs calibration text; set calibration to a text file, or use a recipe "
                "that needs none, e.g. dareq"
            )
        length = min(self.sample_length, source.checkpoint.context_length)
        return sample_windows(read_tokens(source, self.calibration), length, self.samples, self.seed)
