"""Numbers as people read them, each with its exact value in the page's source: ``<data value="…">``."""

from __future__ import annotations

import math

from dareq_edge.reporting.markup import Markup, el

_NONE = el("span", "-", class_="none")


def number(value: float | None, form: str = "{:,.4f}", factor: float = 1.0) -> Markup:
    """A number in a table.

    Args:
        value: As it is in the record; ``None`` is a hyphen.
        form: What is shown, a format string.
        factor: The value is shown times this; the page's source holds it without.
    """
    if value is None:
        return _NONE
    return el("data", form.format(value if factor == 1 else factor * value), value=repr(value))


def size(value: int | None) -> Markup:
    """Bytes, shown in decimal megabytes."""
    return _NONE if value is None else el("data", megabytes(value), value=repr(value))


def megabytes(value: float) -> str:
    """10⁶ bytes, with as many digits as tell small models apart."""
    mb = value / 1e6
    return f"{mb:,.0f} MB" if mb >= 1000 else f"{mb:,.1f} MB" if mb >= 100 else f"{mb:,.2f} MB"


def plus_minus(value: float | None, error: float | None, form: str = "{:,.4f}", factor: float = 1.0) -> Markup:
    """A value and its standard error."""
    if error is None:
        return number(value, form, factor)
    return el("span", number(value, form, factor), " ± ", number(error, form.replace("+", ""), factor))


def short(value: float) -> str:
    """Three digits, for axes and labels.

    >>> short(0.00123), short(12.5), short(12345.0)
    ('1.23e-3', '12.5', '12,345')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) >= 1e6 or abs(value) < 1e-2:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
