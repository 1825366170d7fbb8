"""One choice per matrix, least cost, within a number of bytes: the multiple-choice knapsack problem.

    cost                  The choices worth considering lie on a staircase: more bytes, less cost. Those on its
     │ o                  lower hull (o) are taken in order of cost saved per byte, over all matrices, until the bytes
     │   x                are spent: equal slope everywhere, the optimum of the linear relaxation. Choices off the
     │    o   x           hull (x) and the last bytes are settled by a search among the few choices that the
     │           o        relaxation's bound does not exclude: ``dareq_edge.allocation._search``.
     └──────────── bytes

H. Kellerer, U. Pferschy, D. Pisinger, "Knapsack Problems" (2004), chapter 11: the relaxation 11.2, reductions 11.4.
Nothing here is random; of plans that cost the same the one with fewer bytes is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dareq_edge.allocation._search import improve
from dareq_edge.allocation._staircase import Staircase, fill, hull, relaxed, staircase
from dareq_edge.allocation.bytes import format_bytes
from dareq_edge.errors import AllocationError
from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to store a matrix.

    Attributes:
        spec: How; ``None`` keeps it in float.
        nbytes: Bytes in the file, 0 or more.
        cost: What it does to the model, in any unit that adds up over matrices.

    Raises:
        AllocationError: A number that cannot be counted with.
    """

    spec: QuantSpec | None
    nbytes: int
    cost: float

    def __post_init__(self) -> None:
        if self.nbytes < 0 or not math.isfinite(self.cost):
            raise AllocationError(
                f"a choice of {self.nbytes} bytes costs {self.cost}; measure again, bytes and costs must be finite "
                "and bytes not negative"
            )


def solve(choices: Sequence[Sequence[Choice]], budget: int, *, fixed: int = 0) -> list[int]:
    """Choose for every matrix.

    Args:
        choices: Per matrix, one or more, in any order; those that no plan should take may be among them.
        budget: Bytes that all of it may have.
        fixed: Bytes of the budget that everything else takes.

    Returns:
        Index of the choice per matrix. Their bytes and ``fixed`` never exceed ``budget``, and no change of a single
        choice that lowers the cost would fit.

    Raises:
        AllocationError: Nothing fits, the message says the smallest possible size; or a matrix has no choice.
    """
    steps = _staircases(choices)
    smallest = fixed + sum(int(s.nbytes[0]) for s in steps)
    if smallest > budget:
        raise AllocationError(
            f"no plan fits {format_bytes(budget)}; the smallest possible is {format_bytes(smallest)}, allow at least "
            "that, or fewer bits"
        )
    hulls = [hull(s) for s in steps]
    start = relaxed(steps, hulls, budget - fixed)
    chosen = improve(steps, fill(steps, start.chosen, budget - fixed), start, budget - fixed)
    chosen = fill(steps, chosen, budget - fixed)
    return [int(s.index[c]) for s, c in zip(steps, chosen, strict=True)]


def lower_bound(choices: Sequence[Sequence[Choice]], budget: int, *, fixed: int = 0) -> float:
    """The cost of the linear relaxation, in which choices may be mixed: no plan costs less.

    Args:
        choices: As for ``solve``.
        budget: As for ``solve``.
        fixed: As for ``solve``.
    """
    steps = _staircases(choices)
    return relaxed(steps, [hull(s) for s in steps], budget - fixed).bound


def _staircases(choices: Sequence[Sequence[Choice]]) -> list[Staircase]:
    found = []
    for number, row in enumerate(choices):
        if not row:
            raise AllocationError(f"matrix {number} has no choice; give it one or more, or leave it out")
        nbytes = np.array([c.nbytes for c in row], np.int64)
        found.append(staircase(nbytes, np.array([c.cost for c in row], np.float64)))
    return found
