"""ScoreReport: a perplexity that travels with its uncertainty, token count, protocol and environment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from dareq_edge.errors import ArtifactError
from dareq_edge.records import typed

_LARGEST_EXPONENT = 709
"""exp of more is no float64."""


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """Result of scoring a token set with one model.

    Attributes:
        label: What was scored, e.g. "onnx int8 compute".
        protocol: Name and parameters of the windows, e.g. "gptq(window=2048)".
        nll: The mean loss that ``ppl`` is the exponential of, nats. Mean per predicted token for ``gptq`` and
            ``strided``, mean of per-line means for ``lines``.
        stderr_nll: Standard error of ``nll``, nats.
        tokens: Number of predicted tokens.
        nll_sum: Sum of the losses of all predicted tokens, nats.
        text_bytes: UTF-8 bytes of the scored text; ``None`` when only tokens were given.
        environment: Library versions and CPU, for the reader.
    """

    label: str
    protocol: str
    nll: float
    stderr_nll: float
    tokens: int
    nll_sum: float
    text_bytes: int | None = None
    environment: str = ""

    @property
    def ppl(self) -> float:
        """Perplexity, exp(nll)."""
        return math.exp(self.nll) if self.nll < _LARGEST_EXPONENT else math.inf

    @property
    def stderr(self) -> float:
        """Standard error of the perplexity by the delta method, ppl * stderr_nll."""
        return self.ppl * self.stderr_nll

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per UTF-8 byte of text; ``None`` without text."""
        return None if not self.text_bytes else self.nll_sum / math.log(2) / self.text_bytes

    def to_json(self) -> dict[str, object]:
        """Fields plus the derived ppl, stderr and bits_per_byte."""
        return asdict(self) | {"ppl": self.ppl, "stderr": self.stderr, "bits_per_byte": self.bits_per_byte}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> ScoreReport:
        """Inverse of ``to_json``; derived values are computed again.

        Raises:
            ArtifactError: A field is missing.
            TypeError: A field has a value of another type.
        """
        names = [f.name for f in fields(cls)]
        missing = [n for n in names if n not in data]
        if missing:
            raise ArtifactError(f"score record lacks {missing[0]!r}; evaluate the folder again")
        return typed(cls, {n: data[n] for n in names})
