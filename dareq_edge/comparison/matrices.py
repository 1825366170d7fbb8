"""What a comparison knows of every quantized matrix, as plain records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from dareq_edge.layer_limit import MOST
from dareq_edge.records import typed


@dataclass(frozen=True, slots=True)
class MatrixError:
    """One matrix W against what its codes stand for, Ŵ.

    Attributes:
        name: Module name.
        block: Index of its decoder block; ``None`` outside of them.
        weights: How many it has.
        norm: ‖W‖, Frobenius.
        relative: ‖W − Ŵ‖ / ‖W‖; 0 for a matrix of zeros.
        entropy_before: Of W over 128 equal bins between its extremes, nats.
        entropy_after: Of W − Ŵ likewise.
    """

    name: str
    block: int | None
    weights: int
    norm: float
    relative: float
    entropy_before: float
    entropy_after: float


@dataclass(frozen=True, slots=True)
class WeightErrors:
    """Of a whole model.

    Attributes:
        matrices: In the model's order.
        changed: How many other tensors (norms, biases) are not those of the float model.
    """

    matrices: tuple[MatrixError, ...]
    changed: int = 0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of ``dataclasses.asdict``.

        Raises:
            KeyError, TypeError, ValueError: It is none of ours.
        """
        matrices = tuple(typed(MatrixError, m) for m in data["matrices"])
        if any(m.block is not None and m.block >= MOST for m in matrices) or not all(m.weights for m in matrices):
            raise ValueError("a matrix without weights, or of a block that no model has")
        return typed(cls, {"matrices": matrices, "changed": data["changed"]})

    @property
    def worst(self) -> MatrixError:
        """The matrix with the largest relative error."""
        return max(self.matrices, key=lambda m: m.relative)

    def by_block(self) -> dict[int, tuple[MatrixError, ...]]:
        """The matrices of every decoder block, by its index."""
        found: dict[int, list[MatrixError]] = {}
        for m in self.matrices:
            if m.block is not None:
                found.setdefault(m.block, []).append(m)
        return {block: tuple(found[block]) for block in sorted(found)}


def entropies(matrices: Sequence[MatrixError]) -> tuple[float, float]:
    """Means over weights of the entropies before and after, nats; of at least one matrix."""
    total = sum(m.weights for m in matrices)
    before = sum(m.weights * m.entropy_before for m in matrices) / total
    return before, sum(m.weights * m.entropy_after for m in matrices) / total


def pooled(matrices: Sequence[MatrixError]) -> float:
    """√Σ‖W − Ŵ‖² / √Σ‖W‖²: the relative error of matrices as if they were one."""
    whole = math.hypot(*(m.norm for m in matrices))
    return math.hypot(*(m.norm * m.relative for m in matrices)) / whole if whole else 0.0


def mean(values: Sequence[float]) -> float:
    """The mean of at least one value; infinite where that is beyond any number."""
    return sum(values) / len(values)


def mean_errors(runs: Sequence[WeightErrors | None]) -> WeightErrors | None:
    """Means over runs of the same recipe, if every run has some; the largest number of changed tensors."""
    known = [r for r in runs if r is not None]
    if not known or len(known) < len(runs):
        return None
    matrices = []
    for same in zip(*(r.matrices for r in known), strict=True):
        values = asdict(same[0])
        for name in ("relative", "entropy_before", "entropy_after"):
            values[name] = mean([getattr(m, name) for m in same])
        matrices.append(MatrixError(**values))
    return WeightErrors(tuple(matrices), max(r.changed for r in known))
