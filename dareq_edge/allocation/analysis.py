"""Analysis: a rule's decisions for a model, with what they rest on."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dareq_edge.allocation.facts import Facts
from dareq_edge.allocation.rules import Rule
from dareq_edge.errors import SpecError
from dareq_edge.progress import Progress, silent

if TYPE_CHECKING:
    from dareq_edge.checkpoint import Checkpoint

_RAW = 16  # bits of a float weight as models are stored


@dataclass(frozen=True, slots=True)
class Analysis:
    """What ``analyze`` found.

    Attributes:
        model: What the user named.
        architecture: ``model_type`` of config.json.
        rule: The rule as written.
        settings: Every setting of the rule.
        parameters: Weights in the matrices of every block.
        bits: The decision for every block; ``None`` is raw.
        entropies: Of every block, nats; ``None`` where weights were not read.
        epsilon: Of these entropies.
        thresholds: Of the rule, by name, nats; empty where it has none.
    """

    model: str
    architecture: str
    rule: str
    settings: dict[str, object]
    parameters: tuple[int, ...]
    bits: tuple[int | None, ...]
    entropies: tuple[float, ...] | None
    epsilon: float | None
    thresholds: dict[str, float]

    @property
    def bits_per_weight(self) -> float:
        """Of the weights in blocks, without scales, a raw one counted as 16."""
        spent = sum(n * (_RAW if b is None else b) for n, b in zip(self.parameters, self.bits, strict=True))
        return spent / sum(self.parameters)

    @property
    def counts(self) -> dict[str, int]:
        """Blocks per decision, most bits first, e.g. {"raw": 2, "8": 3, "4": 1}."""
        found = Counter(self.bits)
        return {decision(b): found[b] for b in sorted(found, key=lambda b: -(b or _RAW))}

    def to_json(self) -> dict[str, object]:
        """A plain dict."""
        entropies = self.entropies or (None,) * len(self.bits)
        rows = zip(self.parameters, entropies, self.bits, strict=True)
        return {
            "model": self.model,
            "architecture": self.architecture,
            "rule": self.rule,
            "settings": self.settings,
            "epsilon": self.epsilon,
            "thresholds": self.thresholds,
            "bits_per_weight": self.bits_per_weight,
            "blocks": [
                {"block": i, "parameters": n, "entropy": h, "decision": decision(b)}
                for i, (n, h, b) in enumerate(rows)
            ],
        }


def decision(bits: int | None) -> str:
    """A block's bits as people read them."""
    return "raw" if bits is None else str(bits)


def analyze_facts(model: str, facts: Facts, rule: Rule, written: str) -> Analysis:
    """Decide from the configuration alone.

    Args:
        model: What the user named.
        facts: Of the model.
        rule: One that needs no weights.
        written: The rule as the user wrote it.

    Raises:
        SpecError: The rule needs weights.
    """
    if rule.needs == "weights":
        raise SpecError(f"rule {written} reads weights; leave out --fast, or choose a rule that does not")
    return _made(model, facts, rule, written, None, None)


def analyze_checkpoint(
    checkpoint: Checkpoint,
    facts: Facts,
    rule: Rule,
    written: str,
    progress: Progress = silent,
    *,
    trust_remote_code: bool = False,
) -> Analysis:
    """Measure the entropy of every block, and decide.

    Args:
        checkpoint: A float checkpoint.
        facts: Of the same model.
        rule: Any rule.
        written: The rule as the user wrote it.
        progress: Told after every block.
        trust_remote_code: Let transformers run code that comes with the model.

    Raises:
        CheckpointError: A tensor is missing, has another shape, or holds NaN or infinity.
    """
    from dareq_edge.allocation.entropy import EPSILON, block_entropies  # imports torch

    epsilon = float(getattr(rule, "epsilon", EPSILON))
    scores = block_entropies(
        checkpoint, facts, epsilon=epsilon, progress=progress, trust_remote_code=trust_remote_code
    )
    return _made(checkpoint.source, facts, rule, written, scores, epsilon)


def _made(
    model: str, facts: Facts, rule: Rule, written: str, scores: tuple[float, ...] | None, epsilon: float | None
) -> Analysis:
    thresholds = getattr(rule, "thresholds", None)
    return Analysis(
        model,
        facts.architecture,
        written,
        dataclasses.asdict(rule),  # type: ignore[call-overload]  # every rule is a dataclass
        tuple(facts.parameters(i) for i in range(facts.blocks)),
        rule(facts, scores if rule.needs == "weights" else None),
        scores,
        epsilon,
        {} if thresholds is None or scores is None else thresholds(scores),
    )
