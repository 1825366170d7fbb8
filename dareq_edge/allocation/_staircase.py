"""The choices of a matrix that are worth considering, and the linear relaxation over all matrices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Staircase:
    """Undominated choices of one matrix.

    Attributes:
        nbytes: int64 [C], strictly ascending.
        cost: float64 [C], strictly descending.
        index: int64 [C], where each was among the choices that were given.
    """

    nbytes: NDArray[np.int64]
    cost: NDArray[np.float64]
    index: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Relaxed:
    """What the linear relaxation says.

    Attributes:
        chosen: Step of every staircase, as far as whole steps go: its bytes fit.
        slope: Cost saved per byte at the margin; 0 where everything fits.
        bound: The relaxation's cost: no plan costs less.
    """

    chosen: list[int]
    slope: float
    bound: float


def staircase(nbytes: NDArray[np.int64], cost: NDArray[np.float64]) -> Staircase:
    """Leave out every choice that another one beats in bytes or cost and equals in the other.

    Args:
        nbytes: int64 [C], C >= 1.
        cost: float64 [C].
    """
    order = np.lexsort((cost, nbytes))
    before = np.concatenate(([np.inf], np.minimum.accumulate(cost[order])[:-1]))
    kept = order[cost[order] < before]
    return Staircase(nbytes[kept], cost[kept], kept.astype(np.int64))


def hull(steps: Staircase) -> list[int]:
    """Steps on the lower convex hull, ascending in bytes; the first and the last step are on it."""
    found: list[int] = []
    for step in range(len(steps.nbytes)):
        while len(found) > 1 and _slope(steps, found[-2], found[-1]) <= _slope(steps, found[-1], step):
            found.pop()
        found.append(step)
    return found


def _slope(steps: Staircase, low: int, high: int) -> float:
    """Cost saved per byte."""
    return float((steps.cost[low] - steps.cost[high]) / (steps.nbytes[high] - steps.nbytes[low]))


def relaxed(steps: Sequence[Staircase], hulls: Sequence[Sequence[int]], budget: int) -> Relaxed:
    """Solve the linear relaxation.

    Args:
        steps: Per matrix; the first of each together fit.
        hulls: From ``hull``, per matrix.
        budget: Bytes.
    """
    chosen = [0] * len(steps)
    left = budget - sum(int(s.nbytes[0]) for s in steps)
    costs = [float(s.cost[0]) for s in steps]
    climbs = [
        (-_slope(s, low, high), matrix, low, high)
        for matrix, (s, own) in enumerate(zip(steps, hulls, strict=True))
        for low, high in itertools.pairwise(own)
    ]
    for slope, matrix, low, high in sorted(climbs):
        more = int(steps[matrix].nbytes[high] - steps[matrix].nbytes[low])
        if more > left:
            return Relaxed(chosen, -slope, math.fsum(costs) + slope * left)
        chosen[matrix], left = high, left - more
        costs[matrix] = float(steps[matrix].cost[high])
    return Relaxed(chosen, 0.0, math.fsum(costs))


def fill(steps: Sequence[Staircase], chosen: Sequence[int], budget: int) -> list[int]:
    """Climb where most cost is saved per byte, hull or not, until no single climb fits.

    Args:
        steps: Per matrix.
        chosen: Step per matrix; they fit.
        budget: Bytes.
    """
    filled = list(chosen)
    left = budget - sum(int(s.nbytes[c]) for s, c in zip(steps, filled, strict=True))
    while True:
        best = (0.0, 0, 0, 0)
        for matrix, (s, at) in enumerate(zip(steps, filled, strict=True)):
            above = int(np.searchsorted(s.nbytes, s.nbytes[at] + left, "right"))
            for step in range(at + 1, above):
                climb = (-_slope(s, at, step), int(s.nbytes[step] - s.nbytes[at]), matrix, step)
                best = min(best, climb)
        _, more, matrix, step = best
        if more == 0:
            return filled
        filled[matrix], left = step, left - more
