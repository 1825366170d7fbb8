"""Plans that are made when the model is there: what ``quantize_checkpoint`` takes as ``plan``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dareq_edge.allocation.budgeted import measure_costs
from dareq_edge.allocation.entropy import EPSILON, block_entropies
from dareq_edge.allocation.facts import facts_of_config
from dareq_edge.allocation.rules import Rule
from dareq_edge.calibration.self_text import self_text
from dareq_edge.errors import AllocationError
from dareq_edge.progress import Progress
from dareq_edge.recipes import Recipe, Source
from dareq_edge.recipes._tiers import preferred_compute
from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True)
class WithinBytes:
    """The plan that costs least of those whose exported file is small enough.

    Costs are measured on text that the model writes (``allocation.budgeted``); both stay in the work folder.

    Attributes:
        max_bytes: Of model.onnx and model.onnx.data together.
        cache_bits: As the model will be exported.
        samples: Windows of text.
        sample_length: Tokens per window; at most the model's context.
        seed: Decides the text.

    Raises:
        AllocationError: A number that cannot work.
    """

    max_bytes: int
    cache_bits: int = 32
    samples: int = 8
    sample_length: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.samples, self.sample_length) < 1:
            raise AllocationError(
                f"a budget of {self.max_bytes} bytes on {self.samples} windows of {self.sample_length} tokens cannot "
                "be; give positive numbers"
            )

    def __call__(self, source: Source, recipe: Recipe, progress: Progress) -> Mapping[str, QuantSpec]:
        """The plan.

        Args:
            source: The model; its plan names all matrices that may be quantized, the others stay float.
            recipe: What will quantize.
            progress: Called per step.

        Raises:
            AllocationError: Nothing fits; the message says the smallest possible size.
        """
        own = replace(source, work=source.work / "allocation")
        ids = self_text(
            own,
            samples=self.samples,
            length=min(self.sample_length, source.checkpoint.context_length),
            seed=self.seed,
            work=own.work,
            progress=progress,
        )
        costs = measure_costs(own, recipe, ids, compute=preferred_compute(), progress=progress)
        return costs.plan(source.model, self.max_bytes, cache_bits=self.cache_bits)


@dataclass(frozen=True, slots=True)
class ByRule:
    """The plan of a rule: every matrix of a block in the bits that the rule gives the block, tables as planned.

    Attributes:
        rule: Any rule; one that needs entropies has them measured first.
    """

    rule: Rule

    def __call__(self, source: Source, recipe: Recipe, progress: Progress) -> Mapping[str, QuantSpec]:
        """The plan; blocks that the rule keeps raw are not in it.

        Args:
            source: The model; its plan names all matrices that may be quantized, with groups.
            recipe: What will quantize.
            progress: Called per block that is measured.

        Raises:
            CheckpointError: Entropies are needed and a tensor is missing or holds NaN or infinity.
            UnsupportedArchitectureError: The model has no blocks with linear layers.
        """
        trusted = source.trust_remote_code
        facts = facts_of_config(source.checkpoint.config, trust_remote_code=trusted)
        scores = None
        if self.rule.needs == "weights":
            epsilon = float(getattr(self.rule, "epsilon", EPSILON))
            scores = block_entropies(
                source.checkpoint, facts, epsilon=epsilon, progress=progress, trust_remote_code=trusted
            )
        bits = self.rule(facts, scores)
        blocks = {matrix.name: matrix.block for matrix in facts.matrices}
        found: dict[str, QuantSpec] = {}
        for name, spec in source.plan.items():
            block = blocks.get(name)
            own = spec.bits if block is None else bits[block]
            if own is not None:
                found[name] = replace(spec, bits=own)
        return found
