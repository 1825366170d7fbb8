"""Checks of a recipe's settings, which come from a command line or from JSON; all raise SpecError."""

from __future__ import annotations

import math
from collections.abc import Collection

from dareq_edge.errors import SpecError


def whole(recipe: object, *names: str, least: int = 0) -> None:
    """Whole numbers, ``least`` or more."""
    for name in names:
        value = getattr(recipe, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise SpecError(f"{name} is {value!r}; use a whole number, {least} or more")


def number(recipe: object, *names: str, most: float = math.inf) -> None:
    """Numbers from 0 to ``most``."""
    for name in names:
        value = getattr(recipe, name)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= most:
            allowed = "0 or more" if most == math.inf else f"from 0 to {most:g}"
            raise SpecError(f"{name} is {value!r}; use a number {allowed}")
        if value == math.inf:
            raise SpecError(f"{name} is {value!r}; use a finite number")


def choice(recipe: object, name: str, allowed: Collection[object]) -> None:
    """One of some values."""
    value = getattr(recipe, name)
    if value not in allowed or isinstance(value, bool):
        raise SpecError(f"{name} is {value!r}; use one of {', '.join(map(str, allowed))}")


def flag(recipe: object, *names: str) -> None:
    """True or false."""
    for name in names:
        if not isinstance(getattr(recipe, name), bool):
            raise SpecError(f"{name} is {getattr(recipe, name)!r}; use true or false")


def positive(recipe: object, name: str, most: float = math.inf) -> tuple[float, ...]:
    """Positive numbers, as a tuple; none will do."""
    found: object = getattr(recipe, name)
    numbers = found if isinstance(found, (tuple, list)) else [found]
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 < v <= most for v in numbers):
        raise SpecError(f"{name} is {found!r}; use a list of positive numbers up to {most:g}")
    return tuple(map(float, numbers))
