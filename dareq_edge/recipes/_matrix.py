"""MatrixRecipe: every matrix alone, tensor by tensor; nothing else in the model changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from dareq_edge.matrix import matrix_of
from dareq_edge.plan import Entropy, QuantOptions
from dareq_edge.progress import Progress
from dareq_edge.recipes import Change, Source


@dataclass(frozen=True, slots=True)
class MatrixRecipe:
    """A quantizer plug-in over all planned matrices.

    Attributes:
        method: Quantizer plug-in; ``None`` keeps the one in the user's options.
        entropy: DARE-Q only; ``None`` likewise.
    """

    method: str | None = None
    entropy: Entropy | None = None

    @property
    def label(self) -> str:
        """See ``Recipe``."""
        return self.method or "matrix"

    def options(self, chosen: QuantOptions) -> QuantOptions:
        """See ``Recipe``."""
        return replace(chosen, method=self.method or chosen.method, entropy=self.entropy or chosen.entropy)

    def check(self, source: Source) -> None:
        """See ``Recipe``; the plan has been checked already."""

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        """See ``Recipe``."""
        quantizer = source.options.quantizer()
        for done, (module, spec) in enumerate(source.plan.items()):
            progress("quantizing", done, len(source.plan))
            target = f"{module}.weight"
            weight = matrix_of(source.model.get_submodule(module), source.tensor(target))
            yield target, quantizer(weight, spec, name=module)
        progress("quantizing", len(source.plan), len(source.plan))
