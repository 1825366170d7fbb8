"""Verdicts: tolerances, and the records of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import ParityError, SpecError
from dareq_edge.report import ScoreReport


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two perplexities may be apart: |ppl / ppl_reference - 1| <= relative_ppl.

    Attributes:
        name: For messages.
        relative_ppl: Dimensionless; 1e-4 is 0.01 %.
        reason: Why this value.
    """

    name: str
    relative_ppl: float
    reason: str


FP32_COMPUTE = Tolerance("fp32 compute", 1e-4, "same weights, same arithmetic up to the order of float32 sums")
INT8_COMPUTE = Tolerance("int8 compute", 1e-2, "activations are rounded to 8 bits, differently on ARM and x86")
INT8_CACHE = Tolerance("fp32 compute, int8 cache", 2e-3, "keys and values are rounded to 8 bits, a scale per channel")
TOLERANCES = {t.name: t for t in (FP32_COMPUTE, INT8_COMPUTE, INT8_CACHE)}


@dataclass(frozen=True, slots=True)
class Link:
    """A comparison of two models by label; without a tolerance it only informs."""

    reference: str
    subject: str
    tolerance: Tolerance | None = None

    def __str__(self) -> str:
        return f"{self.reference} -> {self.subject}"


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What one link showed.

    Attributes:
        reference: Label of the model compared against.
        subject: Label of the model compared.
        delta_ppl: ppl / ppl_reference - 1.
        delta_ppl_stderr: Its standard error from paired losses (delta method).
        kl_mean: Mean over predicted tokens of KL(reference || subject), nats; ``None`` when only scores were given.
        kl_p99: 99th percentile of the same.
        top1_agreement: Share of predicted tokens for which both rank the same token first.
        tolerance: Name of the tolerance, if any.
        relative_ppl: Its value.
        passed: Within the tolerance; true without one.
    """

    reference: str
    subject: str
    delta_ppl: float
    delta_ppl_stderr: float | None
    kl_mean: float | None
    kl_p99: float | None
    top1_agreement: float | None
    tolerance: str | None
    relative_ppl: float | None
    passed: bool

    def __str__(self) -> str:
        return f"{self.reference} -> {self.subject}"


@dataclass(frozen=True, slots=True)
class ParityReport:
    """Verdict, with everything it rests on.

    Attributes:
        passed: Every link with a tolerance held.
        broken: The first link that did not, e.g. "torch DARE-Q -> onnx fp32 compute".
        reasons: One sentence per broken link, in the chain's order.
        scores: Perplexity of every model.
        links: Every comparison.
    """

    passed: bool
    broken: str | None
    reasons: tuple[str, ...]
    scores: tuple[ScoreReport, ...]
    links: tuple[LinkReport, ...]

    def to_json(self) -> dict[str, object]:
        """A plain dict, for ``json.dumps``."""
        return {
            "passed": self.passed,
            "broken": self.broken,
            "reasons": list(self.reasons),
            "scores": [s.to_json() for s in self.scores],
            "links": [asdict(link) for link in self.links],
        }

    def require(self) -> None:
        """Raise if the verdict is negative.

        Raises:
            ParityError: The message names the first broken link.
        """
        if not self.passed:
            raise ParityError(self.reasons[0])


def link_report(
    link: Link,
    reference: ScoreReport,
    subject: ScoreReport,
    error: float | None,
    kl: NDArray[np.float64] | None,
    agreement: float | None,
) -> LinkReport:
    """The record of one comparison.

    Args:
        link: What is compared, and how strictly.
        reference: Score of one.
        subject: Score of the other.
        error: Standard error of the difference of mean losses, nats.
        kl: Divergence per predicted token, float64 [tokens], nats.
        agreement: Share of tokens with the same first choice.
    """
    delta = math.expm1(min(subject.nll - reference.nll, 700.0))
    limit = None if link.tolerance is None else link.tolerance.relative_ppl
    return LinkReport(
        reference=link.reference,
        subject=link.subject,
        delta_ppl=delta,
        delta_ppl_stderr=None if error is None else (1 + delta) * error,
        kl_mean=None if kl is None else float(kl.mean()),
        kl_p99=None if kl is None else float(np.percentile(kl, 99)),
        top1_agreement=agreement,
        tolerance=None if link.tolerance is None else link.tolerance.name,
        relative_ppl=limit,
        passed=limit is None or abs(delta) <= limit,
    )


def verdict(scores: Sequence[ScoreReport], links: Sequence[LinkReport]) -> ParityReport:
    """Collect the broken links."""
    broken = [k for k in links if not k.passed]
    reasons = tuple(
        f"link {k} broke: perplexity differs by {100 * k.delta_ppl:+.4f} %, "
        f"tolerance {k.tolerance} allows {100 * (k.relative_ppl or 0):g} %; {_ADVICE.get(k.tolerance or '', '')}"
        for k in broken
    )
    return ParityReport(not broken, str(broken[0]) if broken else None, reasons, tuple(scores), tuple(links))


_ADVICE = {
    FP32_COMPUTE.name: "the exported graph does not compute the quantized model, export it again",
    INT8_CACHE.name: "keys or values exceed what 8 bits hold, export with --cache-bits 32",
    INT8_COMPUTE.name: "this CPU's int8 kernels lose too much here, use a smaller group size or fp32 compute",
}


def compare_scores(reference: ScoreReport, subject: ScoreReport, tolerance: Tolerance) -> ParityReport:
    """Parity from two score records alone, e.g. one in dareq.json and one measured on the device.

    Raises:
        SpecError: They were not made with the same protocol on as many tokens.
    """
    if (reference.protocol, reference.tokens) != (subject.protocol, subject.tokens):
        raise SpecError(
            f"scores are not comparable: {reference.protocol}, {reference.tokens} tokens against "
            f"{subject.protocol}, {subject.tokens} tokens; score again with the reference's protocol and text"
        )
    link = Link(reference.label, subject.label, tolerance)
    return verdict([reference, subject], [link_report(link, reference, subject, None, None, None)])
