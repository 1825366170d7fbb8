"""The page as a parser sees it: whole, closed, self-contained, and true to its record."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dareq_edge.comparison.matrices import entropies, pooled
from dareq_edge.reporting.page import render, sections
from dareq_edge.reporting.records import Report
from dareq_edge.reporting.section import Section
from dareq_edge.reporting.theme import DARK, LIGHT, SHAPES, TEXT
from reports import HOSTILE, full_report, weights

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
LOADING = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "formaction", "background", "ping"}


class Reader(HTMLParser):
    """What HTML's own rules make of a page: elements, ids, text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._inside.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._inside and self._inside[-1] not in ("script", "style"):
            self.text += data


@pytest.fixture(scope="module")
def page() -> str:
    return render(full_report())


@pytest.fixture(scope="module")
def tree(page: str) -> ElementTree.Element:
    """The page read as XML, which forgives nothing."""
    return ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def test_every_section_is_there(page: str) -> None:
    ids = {attributes.get("id") for _, attributes in Reader(page).elements}
    assert {s.anchor for s in sections()} <= ids
    assert len(sections()) >= 8


@pytest.mark.parametrize("section", sections(), ids=lambda s: s.anchor)
def test_a_section_without_a_record_is_left_out(section: Section) -> None:
    full = full_report()
    empty = Report(full.command, full.subject, full.verdict, full.origin)
    assert section.body(full) is not None
    if section.anchor != "origin":
        assert section.body(empty) is None
        assert f'id="{section.anchor}"' not in render(empty)


@pytest.mark.parametrize("section", sections(), ids=lambda s: s.anchor)
def test_ids_of_a_section_begin_with_its_own(section: Section) -> None:
    body = ElementTree.fromstring(f"<div>{section.body(full_report())}</div>")
    for element in body.iter():
        if "id" in element.attrib:
            assert element.attrib["id"].startswith(f"{section.anchor}-")


def test_ids_are_unique_and_references_lead_somewhere(tree: ElementTree.Element) -> None:
    ids = [e.attrib["id"] for e in tree.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids))
    wanted = [w for e in tree.iter() for w in e.attrib.get("aria-labelledby", "").split()]
    wanted += [e.attrib["href"].removeprefix("#") for e in tree.iter() if "href" in e.attrib]
    assert len(wanted) > 20
    assert set(wanted) <= set(ids)


def test_nothing_is_fetched_and_nothing_runs(page: str) -> None:
    reader = Reader(page)
    for tag, attributes in reader.elements:
        assert tag not in (
            "link",
            "iframe",
            "object",
            "embed",
            "base",
            "form",
            "img",
            "image",
            "use",
            "video",
            "audio",
        )
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in LOADING:
                assert (tag, name) == ("a", "href")
                assert str(value).startswith("#")
        if tag == "script":
            assert attributes["type"] == "application/json"
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    addresses = set(re.findall(r"https?://[^\"'< ]+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}  # the name of a format, not a place
    policy = next(a for t, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy["content"]).startswith("default-src 'none'")


def test_hostile_text_stays_text(page: str) -> None:
    reader = Reader(page)
    assert sum(tag == "script" for tag, _ in reader.elements) == 1
    assert sum(tag == "style" for tag, _ in reader.elements) == 1
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\ud800", "\ufffd")
    assert reader.text.count(shown) >= 12  # it is read as it was written, wherever a name or text appears
    assert page.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f]", page)
    with_alert = page.replace("&lt;script&gt;alert", "")
    assert "<script>alert" not in with_alert


def test_charts_can_be_read_without_seeing_them(tree: ElementTree.Element) -> None:
    charts = [e for e in tree.iter(f"{SVG}svg") if e.attrib.get("aria-hidden") != "true"]
    assert len(charts) >= 9
    for chart in charts:
        assert chart.attrib["role"] == "img"
        title, desc = chart[0], chart[1]
        assert (title.tag, desc.tag) == (f"{SVG}title", f"{SVG}desc")
        assert title.text
        assert desc.text
        assert chart.attrib["aria-labelledby"] == f"{title.attrib['id']} {desc.attrib['id']}"
    for body in (s.body(full_report()) for s in sections()):
        if body is not None and "<figure" in body:
            assert "<table>" in body


def test_coordinates_are_numbers_within_the_chart(tree: ElementTree.Element) -> None:
    for chart in tree.iter(f"{SVG}svg"):
        _, _, width, height = map(float, chart.attrib["viewBox"].split())
        for shape in chart.iter():
            for name in ("x", "x1", "x2", "cx"):
                assert -0.01 <= float(shape.attrib.get(name, 0)) <= width + 0.01, shape.attrib
            for name in ("y", "y1", "y2", "cy"):
                assert -0.01 <= float(shape.attrib.get(name, 0)) <= height + 0.01, shape.attrib
            assert "nan" not in str(shape.attrib)
            assert "inf" not in shape.attrib.get("d", "")


def leaves(value: object) -> set[float]:
    """Every number in a JSON record."""
    if isinstance(value, bool):
        return set()
    if isinstance(value, (int, float)):
        return {float(value)}
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return set().union(*(leaves(v) for v in items)) if items else set()


def test_numbers_are_those_of_the_record(page: str, tree: ElementTree.Element) -> None:
    text = page[page.index('id="record">') + len('id="record">') : page.rindex("</script>")]
    record = json.loads(text)
    report = full_report()
    assert record["scores"] == json.loads(json.dumps([s.to_json() for s in report.scores]))
    assert record["links"][1]["delta_ppl"] == report.links[1].delta_ppl
    assert record["subject"] == HOSTILE
    known = leaves(record)
    base, weighed = report.sizes[0].bytes, full_report().weights
    assert weighed is not None
    known |= {row.bytes / base for row in report.sizes}
    known |= {float(m.size) for m in weighed.matrices}
    counts = [m.error.histogram for m in weighed.matrices if m.error]
    known |= {float(sum(column)) for column in zip(*counts, strict=True)}
    known |= {float(len(s.ids)) for s in report.samples.rows} if report.samples else set()
    assert report.comparison is not None
    for row in report.comparison.rows:
        if row.runs and (errors := row.production().errors) is not None:
            known |= {pooled(errors.matrices), *entropies(errors.matrices)}
    shown = [float(e.attrib["value"]) for e in tree.iter("data")]
    assert len(shown) > 300
    assert not [v for v in shown if v not in known]
    for data in tree.iter("data"):
        assert data.text


def test_what_is_shown_is_the_value_rounded(tree: ElementTree.Element) -> None:
    score = next(e for e in tree.iter("data") if e.attrib["value"] == repr(full_report().scores[0].ppl))
    assert score.text == f"{math.exp(2.9123456789):,.4f}"
    size = next(e for e in tree.iter("data") if e.attrib["value"] == "23653376" and e.text == "23,653,376")
    assert size is not None


@pytest.mark.parametrize("passed", [True, False], ids=["passed", "failed"])
def test_the_verdict_is_at_the_top(passed: bool) -> None:
    report = full_report(passed=passed)
    text = Reader(render(report)).text
    word = "PASSED" if passed else "FAILED"
    assert text.index(word) < text.index("Size")
    assert all(text.index(reason) < text.index("Bytes against fp32") for reason in report.verdict.reasons)
    assert ("BROKEN" in text) is not passed


def test_even_bits_are_said_not_drawn() -> None:
    even = replace(full_report(), weights=weights(uneven=False))
    assert "bits-grid" not in render(even)
    assert "24 matrices in 4 bits, a scale per row" in Reader(render(even)).text


def test_scales_without_errors() -> None:
    found = render(replace(full_report(), weights=weights(errors=False)))
    assert 'id="scales-blocks"' in found
    assert 'id="weights"' not in found


def test_infinite_losses_do_not_break_the_page() -> None:
    report = full_report()
    scores = (replace(report.scores[0], nll=709.0), *report.scores[1:])
    page = render(replace(report, scores=scores))
    ElementTree.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def test_a_page_needs_no_torch() -> None:
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT / r) for r in ('.', 'runtime', 'tests')]!r}\n"
        "for name in ('torch', 'transformers', 'onnx', 'matplotlib', 'safetensors'): sys.modules[name] = None\n"
        "from dareq_edge.reporting.page import render\nfrom reports import full_report\nassert render(full_report())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def luminance(color: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(colors: dict[str, str]) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert set(LIGHT) == set(DARK)
    for name in TEXT:
        assert contrast(colors[name], colors["paper"]) >= 4.5, name
        assert contrast(colors[name], colors["panel"]) >= 4.5, name
    for name in SHAPES:
        assert contrast(colors[name], colors["paper"]) >= 3, name
