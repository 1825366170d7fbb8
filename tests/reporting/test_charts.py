"""Axes and the small functions that charts are made of."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dareq_edge.reporting.charts.axis import axis_for
from dareq_edge.reporting.charts.frame import WIDTH, Words, cut, marker
from dareq_edge.reporting.charts.lines import Point, Series, lines
from dareq_edge.reporting.markup import Markup, el, join, text
from dareq_edge.reporting.numbers import megabytes, number, short

VALUES = st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=20)


@given(VALUES, st.booleans())
@example([1.000000000001], False)
def test_an_axis_holds_its_values_in_order(values: list[float], log: bool) -> None:
    axis = axis_for(values, 200, 10, log=log)
    places = [axis(v) for v in sorted(values)]
    assert all(10 <= p <= 200 for p in places)
    assert places == sorted(places, reverse=True)
    assert all(axis.low <= t <= axis.high for t in axis.ticks())
    assert len(axis.ticks()) <= 9


@pytest.mark.parametrize("values", [[0.0], [5.0], [-3.0, 3.0], [1e-9, 1.0], [1.0, 1.0000001], [-1e-9, 2e-9]])
def test_an_axis_has_numbers_on_it(values: list[float]) -> None:
    assert len(axis_for(values, 0, 100).ticks()) >= 2


@pytest.mark.parametrize(
    "values", [[1e-320, 1.0], [1e-320], [-1e308, 1e308], [5e-324, 1.7e308], [1.0, math.inf], [-math.inf, math.inf]]
)
def test_an_axis_of_extremes(values: list[float]) -> None:
    axis = axis_for(values, 200, 10)
    assert all(10 <= axis(v) <= 200 for v in values)
    assert all(math.isfinite(t) and axis.low <= t <= axis.high for t in axis.ticks())


def test_a_wide_range_is_drawn_by_ratios() -> None:
    assert axis_for([1.0, 100.0], 0, 100).log
    assert (
        axis_for([1.0, 100.0], 0, 100).ticks() == [1.0, 10.0, 100.0] or 10.0 in axis_for([1.0, 100.0], 0, 1).ticks()
    )
    assert not axis_for([1.0, 2.0], 0, 100).log
    assert not axis_for([0.0, 100.0], 0, 100).log


def test_markup_is_taken_as_it_is_and_text_is_escaped() -> None:
    assert el("p", "<b>", el("b", "x")) == "<p>&lt;b&gt;<b>x</b></p>"
    assert el("a", href='"><script>') == '<a href="&quot;&gt;&lt;script&gt;"></a>'
    assert el("meta", charset="utf-8") == '<meta charset="utf-8"/>'
    assert el("details", open=True, hidden=None) == '<details open="open"></details>'
    assert join("a", None, 1) == "a1"
    assert type(text("a") + "<b>") is str  # what is added to markup is no markup any more
    assert isinstance(text("x"), Markup)


def test_control_characters_become_visible() -> None:
    assert text("a\x00b\x1b\ud83d\tc\n") == "a\ufffdb\ufffd\ufffd\tc\n"


def test_numbers() -> None:
    assert number(1234567) == '<data value="1234567">1,234,567.0000</data>'
    assert number(3, "{:,}") == '<data value="3">3</data>'
    assert number(0.1234, "{:.1f} %", 100) == '<data value="0.1234">12.3 %</data>'
    assert number(None) == '<span class="none">-</span>'
    assert [megabytes(v) for v in (5_913_344, 123_456_789, 1_234_567_890)] == ["5.91 MB", "123.5 MB", "1,235 MB"]
    assert [short(v) for v in (0, 0.5, 123.4, 0.00012, 2.5e7, math.inf)] == [
        "0",
        "0.5",
        "123",
        "1.2e-4",
        "2.5e7",
        "inf",
    ]


def test_markers_differ_in_form_where_colours_repeat() -> None:
    forms = {marker(0, 0, i).split(" class")[0] for i in range(4)}
    assert len(forms) == 4
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"


def test_values_that_are_no_numbers_are_left_out() -> None:
    series = [Series("a", (Point(0, 1.0), Point(1, math.inf), Point(2, math.nan)))]
    drawn = lines(Words("x", "t", "d"), series, "block", "y")
    assert drawn.count("<circle") == 1
    assert "nan" not in drawn
    assert f"0 0 {WIDTH}" in drawn
