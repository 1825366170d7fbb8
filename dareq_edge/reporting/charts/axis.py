"""Axes: from numbers to places, and the round numbers that are written beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dareq_edge.reporting.charts.frame import WIDTH, label, line
from dareq_edge.reporting.markup import Markup, join
from dareq_edge.reporting.numbers import short

_FAR = 1e150  # the ratio of two such values is a number still
_WIDE = 8.0  # largest value over smallest, from where a logarithmic axis reads better


@dataclass(frozen=True, slots=True)
class Axis:
    """Maps [low, high] to [start, end] in units of the view box.

    Attributes:
        low: Smallest value.
        high: Largest value; more than ``low``.
        start: Place of ``low``.
        end: Place of ``high``.
        log: Whether equal ratios are equally far apart; then ``low`` is positive.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Place of a value; what lies beyond an end is put there."""
        a, b, v = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            a, b, v = math.log(a), math.log(b), math.log(v)
        return self.start + (v - a) / (b - a) * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers within."""
        return _log_ticks(self.low, self.high, most) if self.log else _ticks(self.low, self.high, most)


def axis_for(values: Sequence[float], start: float, end: float, *, log: bool | None = None) -> Axis:
    """An axis that holds all values, with some room.

    Args:
        values: At least one; what is beyond ±1e150 is taken as that.
        start: Place of the smallest.
        end: Place of the largest.
        log: ``None`` decides by how far apart the values are.
    """
    low, high = (min(max(v, -_FAR), _FAR) for v in (min(values), max(values)))
    if log is None:
        log = low > 0 and high > _WIDE * low
    if log and low > 0:
        low, high = max(low, 1 / _FAR), max(high, 1 / _FAR)
        room = (high / low) ** 0.06 if high > low else 1.1
        return Axis(low / room, high * room, start, end, log=True)
    room = 0.06 * (high - low) or abs(high) * 0.01 or 1.0
    return Axis(low - room, high + room, start, end)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten; the last digits of an end may not cost it its number."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [min(max(i * step, low), high) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten, with 2 and 5 times them where there are few; where there is none, as on a plain axis."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors, step in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3)):
        found = [f * 10.0**e for e in range(first, last + 1, step) for f in factors if low <= f * 10.0**e <= high]
        if 2 <= len(found) <= most + 2:
            return found
    return [t for t in _ticks(low, high, most) if t > 0]


def left_axis(axis: Axis, x: float, right: float = WIDTH - 4) -> Markup:
    """Horizontal lines at round numbers, each with its number left of ``x``."""
    parts = [
        join(line(x, axis(t), right, axis(t), "grid"), label(x - 4, axis(t) + 3.5, short(t), "end", "tick"))
        for t in axis.ticks()
    ]
    return join(*parts)


def bottom_axis(axis: Axis, top: float, y: float, ticks: Sequence[float] | None = None) -> Markup:
    """Vertical lines from ``top`` to ``y`` at round numbers, each with its number below."""
    at = axis.ticks() if ticks is None else ticks
    parts = [
        join(line(axis(t), top, axis(t), y, "grid"), label(axis(t), y + 13, short(t), "middle", "tick")) for t in at
    ]
    return join(*parts)
