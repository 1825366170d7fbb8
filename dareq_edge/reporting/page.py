"""The page: verdict first, then every section that the report has something for, the record itself at the end."""

from __future__ import annotations

import json
import math

from dareq_edge.plugins import available, load
from dareq_edge.reporting.markup import Markup, el, join, raw
from dareq_edge.reporting.records import Report
from dareq_edge.reporting.section import Section
from dareq_edge.reporting.theme import style

_SECTIONS = "dareq_edge.reporting.sections"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Nothing is fetched and nothing runs, whatever text a model or a file brings in."""


def sections() -> list[Section]:
    """All there are, in their order."""
    found = [load(_SECTIONS, name).SECTION for name in available(_SECTIONS)]
    return sorted(found, key=lambda s: s.order)


def render(report: Report) -> str:
    """The whole page.

    Args:
        report: What to show.

    Returns:
        HTML that is well-formed XML as well, without any address of something outside of it.
    """
    shown = [(s, body) for s in sections() if (body := s.body(report)) is not None]
    title = f"{report.subject}: {report.command}, {report.verdict.state}"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="robots", content="noindex"),
        el("title", title),
        el("style", raw(style())),
    )
    links = [el("li", el("a", s.title, href=f"#{s.anchor}")) for s, _ in shown]
    body = el(
        "body",
        el("header", *_top(report), el("nav", el("ul", *links), aria_label="Sections")),
        el("main", *(_section(s, content) for s, content in shown)),
        _foot(report),
        el("script", raw(_data(report)), type="application/json", id="record"),
    )
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n"


def _top(report: Report) -> list[Markup]:
    """Title, and the verdict with its reasons."""
    verdict = report.verdict
    reasons = [el("li", reason) for reason in verdict.reasons]
    box = el(
        "div",
        el("strong", verdict.state.upper()),
        el("p", verdict.sentence),
        el("ul", *reasons) if reasons else None,
        class_=f"verdict {verdict.state}",
        role="status",
        id="verdict",
    )
    made = f"dareq-edge {report.command}, {report.origin.when}"
    return [el("h1", el("bdi", report.subject)), el("p", made, class_="soft"), box]


def _section(section: Section, content: Markup) -> Markup:
    heading = f"{section.anchor}-heading"
    return el("section", el("h2", section.title, id=heading), content, id=section.anchor, aria_labelledby=heading)


def _foot(report: Report) -> Markup:
    """What is not there and why, and lines to sign on."""
    absent = [el("li", el("b", what), ": ", why) for what, why in report.absent.items()]
    signs = [el("div", words) for words in ("Name", "Date", "Decision")]
    return el(
        "footer",
        join(el("h2", "Not on this page"), el("ul", *absent)) if absent else None,
        el("div", *signs, class_="sign"),
    )


def _data(report: Report) -> str:
    """The record as JSON that no text can break out of."""
    text = json.dumps(_plain(report.to_json()), ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: object) -> object:
    """Without what JSON has no numbers for: infinity becomes ``null``."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
