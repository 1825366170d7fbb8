"""The report in a real Chromium: on a phone, on paper, and with text in it that would like to be markup."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dareq_edge.reporting.page import render
from reports import full_report
from web_page import PATIENCE

pytestmark = pytest.mark.web

PHONE, DESK, PAPER = 360, 1280, 718
"""Widths in CSS pixels: a small phone, a desktop, A4 less its margins."""


class Shown:
    """A page that is open, and everything it logged, asked for or tried to run."""

    def __init__(self, browser: Any, path: Path, width: int, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(PATIENCE)
        self.problems: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda message: self.problems.append(message.text))
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("dialog", lambda dialog: self.problems.append(dialog.message))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.as_uri())

    def overflow(self) -> int:
        """Pixels that the page is wider than what shows it."""
        return int(self.tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "r.html"
    file.write_text(render(full_report()), encoding="utf-8")
    return file


@pytest.fixture
def show(chromium: Any, path: Path) -> Iterator[Any]:
    opened: list[Shown] = []

    def make(width: int, scheme: str = "light") -> Shown:
        opened.append(Shown(chromium, path, width, scheme))
        return opened[-1]

    yield make
    for page in opened:
        page.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(PHONE, "light"), (PHONE, "dark"), (DESK, "dark")])
def test_renders(show: Any, path: Path, width: int, scheme: str) -> None:
    page = show(width, scheme)
    assert page.problems == []
    assert page.asked == [path.as_uri()]
    assert page.overflow() == 0
    page.tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.overflow() == 0
    wide = page.tab.evaluate("[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)")
    assert wide or width == DESK  # on a phone, tables scroll in their own boxes
    background = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")
    text = page.tab.evaluate(
        "Math.min(...[...document.querySelectorAll('figure svg text')].map(e => e.getBoundingClientRect().height))"
    )
    assert text >= 10  # CSS pixels that a line of a chart's text takes


def test_charts_are_as_wide_as_the_phone(show: Any) -> None:
    page = show(PHONE)
    widths = page.tab.evaluate("[...document.querySelectorAll('figure > svg')].map(e => e.clientWidth)")
    assert len(widths) >= 9
    assert min(widths) >= PHONE - 40


def test_on_paper(show: Any, tmp_path: Path) -> None:
    page = show(PAPER, "dark")
    page.tab.emulate_media(media="print", color_scheme="dark")
    assert page.tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.overflow() == 0
    hidden = page.tab.evaluate(
        "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().height < 5).length"
    )
    assert hidden == 0  # folded tables are printed
    assert not page.tab.is_visible("nav")
    assert page.tab.pdf(format="A4").startswith(b"%PDF")
    assert page.problems == []
