"""What a comparison finds, as plain records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from dareq_edge.comparison.matrices import WeightErrors, mean, mean_errors
from dareq_edge.comparison.variants import Variant
from dareq_edge.records import typed

FLOAT = "float model"
"""Label of the float model among continuations."""
POOLED = "all"
"""Label of the score over all texts together; with one text there is no such score."""


@dataclass(frozen=True, slots=True)
class Score:
    """One model on one text, against the float model on the same tokens.

    Attributes:
        tokens: Predicted tokens.
        nll: Mean loss, nats.
        stderr_nll: Its standard error.
        delta_ppl: ppl / ppl of the float model - 1.
        delta_stderr: Its standard error, from the paired losses.
        kl: Mean KL(float || this), nats.
        top1: Share of tokens for which both rank the same token first.
    """

    tokens: int
    nll: float
    stderr_nll: float
    delta_ppl: float = 0.0
    delta_stderr: float = 0.0
    kl: float = 0.0
    top1: float = 1.0

    @property
    def ppl(self) -> float:
        """Perplexity; infinite where the loss is beyond any number."""
        return math.exp(self.nll) if self.nll < 700 else math.inf

    @property
    def stderr(self) -> float:
        """Standard error of the perplexity (delta method)."""
        return self.ppl * self.stderr_nll

    def to_json(self) -> dict[str, object]:
        """Fields, and ppl and stderr."""
        return asdict(self) | {"ppl": self.ppl, "stderr": self.stderr}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of ``to_json``.

        Raises:
            KeyError, TypeError, ValueError: It is none of ours.
        """
        score = typed(cls, {f.name: data[f.name] for f in fields(cls)})
        if any(math.isnan(getattr(score, f.name)) for f in fields(cls)):
            raise ValueError("a score is no number")
        return score


@dataclass(frozen=True, slots=True)
class Production:
    """What it took to quantize, and what came out.

    Attributes:
        seconds: Without importing libraries.
        peak_bytes: Most memory resident at any time in the process that did nothing else.
        base_bytes: Resident in it before the work began: interpreter and libraries.
        weight_bytes: Of all tensors of the checkpoint, embedding and head included, in this method's own form.
        bits_per_weight: Of the quantized linear layers, scales included.
        coded_bytes: ``weight_bytes`` with every quantized matrix as a container holds it; ``None`` for a method that
            is only dequantized, and in records of older versions.
        coded_bits_per_weight: Of the quantized linear layers in a container, scales included; ``None`` likewise.
        errors: Of every quantized matrix; ``None`` in records of older versions.
    """

    seconds: float
    peak_bytes: int
    base_bytes: int
    weight_bytes: int
    bits_per_weight: float
    coded_bytes: int | None = None
    coded_bits_per_weight: float | None = None
    errors: WeightErrors | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of ``asdict``.

        Raises:
            AttributeError, KeyError, TypeError: It is none of ours.
        """
        errors = data.get("errors")
        return typed(cls, {**data, "errors": None if errors is None else WeightErrors.from_json(errors)})


@dataclass(frozen=True, slots=True)
class Run:
    """One recipe with one seed.

    Attributes:
        seed: ``None`` for a recipe that draws nothing at random.
        production: How it was made.
        scores: Per text.
    """

    seed: int | None
    production: Production
    scores: Mapping[str, Score]

    def to_json(self) -> dict[str, object]:
        """A plain dict."""
        scores = {label: s.to_json() for label, s in self.scores.items()}
        return {"seed": self.seed, "production": asdict(self.production), "scores": scores}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of ``to_json``.

        Raises:
            AttributeError, KeyError, TypeError: It is none of ours.
        """
        scores = {label: Score.from_json(s) for label, s in data["scores"].items()}
        made = Production.from_json(data["production"])
        return typed(cls, {"seed": data["seed"], "production": made, "scores": scores})


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over a recipe's runs on one text; ``sd_ppl`` is the spread between seeds, ``None`` for a single run."""

    ppl: float
    stderr: float
    sd_ppl: float | None
    delta_ppl: float
    delta_stderr: float
    kl: float
    top1: float


@dataclass(frozen=True, slots=True)
class Row:
    """One recipe of the table.

    Attributes:
        variant: What was asked for.
        storable: Whether a checkpoint can hold it; otherwise it was only dequantized for comparison.
        runs: One per seed; empty if it failed.
        failed: Why, in one sentence.
    """

    variant: Variant
    storable: bool
    runs: tuple[Run, ...] = ()
    failed: str | None = None

    def summary(self, text: str) -> Summary:
        """Means on one text; only of a row that did not fail."""
        scores = [run.scores[text] for run in self.runs]
        ppl = [s.ppl for s in scores]
        return Summary(
            ppl=mean(ppl),
            stderr=mean([s.stderr for s in scores]),
            sd_ppl=statistics.stdev(ppl) if len(ppl) > 1 else None,
            delta_ppl=mean([s.delta_ppl for s in scores]),
            delta_stderr=mean([s.delta_stderr for s in scores]),
            kl=mean([s.kl for s in scores]),
            top1=mean([s.top1 for s in scores]),
        )

    def production(self) -> Production:
        """Means over runs; the largest for memory."""
        made = [run.production for run in self.runs]
        size = _mean([p.coded_bytes for p in made])
        return Production(
            mean([p.seconds for p in made]),
            max(p.peak_bytes for p in made),
            max(p.base_bytes for p in made),
            round(mean([p.weight_bytes for p in made])),
            mean([p.bits_per_weight for p in made]),
            None if size is None else round(size),
            _mean([p.coded_bits_per_weight for p in made]),
            mean_errors([p.errors for p in made]),
        )

    def to_json(self) -> dict[str, object]:
        """A plain dict with every run."""
        texts = list(self.runs[0].scores) if self.runs else []
        return {
            "recipe": self.variant.label,
            **asdict(self.variant),
            "storable": self.storable,
            "failed": self.failed,
            "mean": {t: asdict(self.summary(t)) for t in texts},
            "production": asdict(self.production()) if self.runs else None,
            "runs": [run.to_json() for run in self.runs],
        }


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, if every run has one."""
    known = [v for v in values if v is not None]
    return mean(known) if len(known) == len(values) else None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything a comparison found.

    Attributes:
        model: As the user named it.
        revision: Commit, for a model of the hub.
        window: Tokens per window.
        reference: Score of the float model per text, the last one pooled if there are several.
        reference_bytes: Of its weights as they are stored.
        reference_bits: Per weight of its linear layers.
        rows: In the order asked for.
        environment: Library versions and CPU.
        continuations: Tokens that the float model (FLOAT) and one model of each recipe (its label) made of a prompt;
            empty without one, and without rows that were finished before there was one.
    """

    model: str
    revision: str | None
    window: int
    reference: Mapping[str, Score]
    reference_bytes: int
    reference_bits: float
    rows: tuple[Row, ...]
    environment: str
    continuations: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def main_text(self) -> str:
        """The pooled text, or the only one."""
        return list(self.reference)[-1]

    @property
    def failed(self) -> list[Row]:
        """Rows without a result."""
        return [row for row in self.rows if row.failed is not None]

    def to_json(self) -> dict[str, object]:
        """A plain dict, for ``json.dumps``."""
        return {
            "model": self.model,
            "revision": self.revision,
            "window": self.window,
            "reference": {
                "weight_bytes": self.reference_bytes,
                "bits_per_weight": self.reference_bits,
                "scores": {label: s.to_json() for label, s in self.reference.items()},
            },
            "rows": [row.to_json() for row in self.rows],
            "environment": self.environment,
            "continuations": {label: list(ids) for label, ids in self.continuations.items()},
        }
