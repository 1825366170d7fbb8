"""Plans that are made when the model is there: what ``quantize_checkpoint`` takes as ``plan``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dareq_edge.allocation.budgeted import measure_costs
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
