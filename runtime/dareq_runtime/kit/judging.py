"""The host's own verdict on a device's result: from the losses of single tokens, not from what it concludes of them.

That proves arithmetic, not honesty: a device that invents losses near the host's passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import ParityError
from dareq_edge.report import ScoreReport
from dareq_runtime.kit.layout import tolerance
from dareq_runtime.kit.proof import kit_of
from dareq_runtime.kit.result import DeviceResult
from dareq_runtime.scoring import mean_and_error
from dareq_runtime.verdict import Link, LinkReport, ParityReport, link_report

AGREES = 1e-9
"""Relative: the device's float64 sums and ours, over the same numbers."""

_ADVICE = {
    "int8": "this CPU's int8 kernels lose too much here, use a smaller group size or fp32 compute",
    "fp32": "the device does not compute what the host does, compare the versions of onnxruntime",
}


@dataclass(frozen=True, slots=True)
class KitVerdict:
    """A verdict and what it rests on.

    Attributes:
        parity: Host against device, a link per compute level.
        disagreements: A sentence for every number or verdict of the device that its losses do not give.
        kit_proven: The result was compared with its kit, whose own reference was used.
    """

    parity: ParityReport
    disagreements: tuple[str, ...]
    kit_proven: bool

    def to_json(self) -> dict[str, object]:
        """A plain dict, for ``json.dumps``."""
        rest = {"disagreements": list(self.disagreements), "kit_proven": self.kit_proven}
        return self.parity.to_json() | rest


def judge(result: DeviceResult, kit: Path | None = None) -> KitVerdict:
    """Judge a result again.

    Args:
        result: What the device found.
        kit: The kit's folder or zip: proves that the result is of this kit, and gives the reference. Without it,
            the result's own account of the kit is believed.

    Raises:
        ArtifactError: The kit is damaged, or the result is of another one.
        ParityError: A loss is not finite.
    """
    references = {name: found.reference_nll for name, found in result.computes.items()}
    facts = _Facts(result.protocol, str(result.weighting), result.model)
    disagreements: list[str] = []
    if kit is not None:
        record, known = kit_of(result, kit)
        told, facts = facts, _Facts(record.protocol, record.weighting, record.to_json()["model"])
        disagreements += [] if told == facts else ["its account of the model and protocol is not the kit's"]
        other = [name for name in known if not np.array_equal(known[name], references[name])]
        disagreements += [f"{name} compute: its reference is not the kit's" for name in other]
        references = known
    scores: list[ScoreReport] = []
    links: list[LinkReport] = []
    reasons = []
    for name, found in result.computes.items():
        pair, link = _compare(name, found.nll, references[name], result, facts)
        disagreements += [f"{name} compute: {text}" for text in _differences(found.claims, _concluded(pair, link))]
        scores += pair
        links.append(link)
        if not link.passed:
            limit = 100 * (link.relative_ppl or 0)
            gap = f"perplexity differs by {100 * link.delta_ppl:+.4f} % from the host's, {limit:g} % is allowed"
            reasons.append(f"{name} compute: {gap}; {_ADVICE[name]}")
    disagreements += _differences(result.claims, {"passed": not reasons})
    broken = next((str(link) for link in links if not link.passed), None)
    report = ParityReport(not reasons, broken, tuple(reasons), tuple(scores), tuple(links))
    return KitVerdict(report, tuple(disagreements), kit is not None)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What of a kit decides how losses are judged."""

    protocol: str
    weighting: str
    model: Mapping[str, Any]


def _compare(
    name: str, nll: NDArray[np.float64], reference: NDArray[np.float64], result: DeviceResult, facts: _Facts
) -> tuple[list[ScoreReport], LinkReport]:
    """Scores of host and device, and the link between them, for one compute level."""
    host, here = (
        _score(f"{who} {name} compute", losses, result, facts)
        for who, losses in (("host", reference), ("device", nll))
    )
    allowed = tolerance(name, 8 if facts.model.get("cache_bits") == 8 else 32)
    link = Link(host.label, here.label, allowed)
    error = _mean_and_error(nll - reference, result.counts, facts.weighting)[1]
    return [host, here], link_report(link, host, here, error, None, None)


def _score(label: str, losses: NDArray[np.float64], result: DeviceResult, facts: _Facts) -> ScoreReport:
    if not np.isfinite(losses).all():
        raise ParityError(f"{label} gives losses that are not finite; update onnxruntime there, or export again")
    mean, error = _mean_and_error(losses, result.counts, facts.weighting)
    environment = ", ".join(str(result.device.get(key)) for key in ("cpu", "system", "onnxruntime"))
    where = environment if label.startswith("device") else ""
    return ScoreReport(label, facts.protocol, mean, error, len(losses), float(losses.sum()), None, where)


def _mean_and_error(losses: NDArray[np.float64], counts: tuple[int, ...], weighting: str) -> tuple[float, float]:
    parts = np.split(losses, np.cumsum(counts)[:-1])
    return mean_and_error(parts, "window" if weighting == "window" else "token")


def _concluded(pair: list[ScoreReport], link: LinkReport) -> dict[str, Any]:
    """What the device should have concluded, under the names it uses."""
    host, here = pair
    return {
        "tokens": here.tokens,
        "ppl": here.ppl,
        "stderr": here.stderr,
        "reference_ppl": host.ppl,
        "delta_ppl": link.delta_ppl,
        "delta_stderr": link.delta_ppl_stderr,
        "allowed": link.relative_ppl,
        "passed": link.passed,
    }


def _differences(claims: Mapping[str, Any], true: Mapping[str, Any]) -> list[str]:
    """A sentence per claim that is not what follows from the losses."""
    return [
        f"it says {name} {claims.get(name)}, its losses give {value}"
        for name, value in true.items()
        if not _same(claims.get(name), value)
    ]


def _same(claim: object, value: float | bool) -> bool:
    if isinstance(value, bool) or isinstance(claim, bool) or not isinstance(claim, int | float):
        return claim is value
    try:
        return math.isclose(claim, value, rel_tol=AGREES, abs_tol=AGREES)
    except OverflowError:  # a whole number that is no float64
        return False
