"""The search after the relaxation: dynamic programming over the choices that its bound leaves.

With the relaxation's slope (cost per byte) every choice has an excess over the best of its matrix,

    excess = (cost + slope * bytes) - the least of that matrix,     and any plan costs
    cost   = bound + sum of excesses + slope * bytes unused.

So a choice, or a partial plan, whose excess is above the best plan's cost - bound can be dropped. Of the rest,
partial plans that another one beats in bytes and cost are dropped too. What remains is usually few and the result
exact; if it becomes many, one partial plan is kept per grain of bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dareq_edge.allocation._staircase import Relaxed, Staircase

_STATES = 4096  # partial plans; more were never worth their time
_ROUNDING = 1e-9  # relative, of sums of float64 numbers


def improve(steps: Sequence[Staircase], chosen: Sequence[int], start: Relaxed, budget: int) -> list[int]:
    """The best plan that is found, ``chosen`` or a better one.

    Args:
        steps: Per matrix.
        chosen: A plan that fits.
        start: The relaxation.
        budget: Bytes.
    """
    best = list(chosen)
    if start.slope == 0.0:
        return best
    gap = math.fsum(float(s.cost[c]) for s, c in zip(steps, best, strict=True)) - start.bound
    gap = max(gap, 0.0) * (1 + _ROUNDING)  # plans that cost the same stay, for they may have fewer bytes
    excess = [s.cost + start.slope * s.nbytes for s in steps]
    excess = [e - e.min() for e in excess]
    kept = [np.flatnonzero(e <= gap) for e in excess]
    if any(len(k) == 0 for k in kept):
        return best
    undecided = sorted((m for m, k in enumerate(kept) if len(k) > 1), key=lambda m: float(np.sort(excess[m])[1]))
    decided = [m for m, k in enumerate(kept) if len(k) == 1]
    for m in decided:
        best[m] = int(kept[m][0])
    left = budget - sum(int(steps[m].nbytes[best[m]]) for m in decided)
    found = _plan([(steps[m].nbytes[kept[m]], excess[m][kept[m]]) for m in undecided], left, gap, start.slope)
    if found is None:
        return list(chosen)
    for m, option in zip(undecided, found, strict=True):
        best[m] = int(kept[m][option])
    return _better(steps, best, chosen)


def _better(steps: Sequence[Staircase], new: list[int], old: Sequence[int]) -> list[int]:
    """The plan of lower cost, of equal cost the one of fewer bytes."""

    def rank(plan: Sequence[int]) -> tuple[float, int]:
        pairs = list(zip(steps, plan, strict=True))
        return math.fsum(float(s.cost[c]) for s, c in pairs), sum(int(s.nbytes[c]) for s, c in pairs)

    return min(new, list(old), key=rank)


def _plan(
    options: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]], budget: int, gap: float, slope: float
) -> list[int] | None:
    """Option per matrix, or ``None`` when none stays within budget and gap.

    Args:
        options: Per matrix (bytes, excess), ascending in bytes.
        budget: Bytes for these matrices.
        gap: Excess, unused bytes included, that a plan may have.
        slope: Cost per byte.
    """
    least = np.cumsum([0, *(int(n[0]) for n, _ in options[::-1])])[::-1]  # bytes that those still to come take
    most = np.cumsum([0, *(int(n[-1]) for n, _ in options[::-1])])[::-1]
    fewest = budget - gap / slope  # a plan with less leaves more unused than it may
    if least[0] > budget:
        return None
    nbytes, excess = np.zeros(1, np.int64), np.zeros(1)
    trail: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for number, (more, worse) in enumerate(options, start=1):
        totals = (nbytes[:, None] + more).reshape(-1)
        sums = (excess[:, None] + worse).reshape(-1)
        alive = (totals + least[number] <= budget) & (totals + most[number] >= fewest) & (sums <= gap)
        where = np.flatnonzero(alive)
        where = where[_undominated(totals[where], sums[where], slope)]
        if len(where) == 0:
            return None
        trail.append((where // len(more), where % len(more)))
        nbytes, excess = totals[where], sums[where]
    cost = excess - slope * nbytes
    state = int(np.lexsort((nbytes, cost))[0])
    found = []
    for parents, taken in reversed(trail):
        found.append(int(taken[state]))
        state = int(parents[state])
    return found[::-1]


def _undominated(nbytes: NDArray[np.int64], excess: NDArray[np.float64], slope: float) -> NDArray[np.int64]:
    """Partial plans that no other beats, at most ``_STATES``: ascending in bytes, descending in cost."""
    cost = excess - slope * nbytes
    order = np.lexsort((cost, nbytes))
    before = np.concatenate(([np.inf], np.minimum.accumulate(cost[order])))[:-1]
    kept = order[cost[order] < before]
    if len(kept) <= _STATES:
        return kept.astype(np.int64)
    grains = (nbytes[kept] - nbytes[kept[0]]) * _STATES // (nbytes[kept[-1]] - nbytes[kept[0]] + 1)
    by_grain = np.lexsort((excess[kept], grains))
    first = np.unique(grains[by_grain], return_index=True)[1]
    return kept[by_grain[first]].astype(np.int64)
