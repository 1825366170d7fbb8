"""The exact command, versions, hashes and machine."""

from __future__ import annotations

from collections.abc import Mapping

from dareq_edge.reporting.markup import Markup, el, join
from dareq_edge.reporting.numbers import number
from dareq_edge.reporting.records import HashedFile, Report
from dareq_edge.reporting.section import Section
from dareq_edge.reporting.table import table


def body(report: Report) -> Markup | None:
    """Everything that is needed to do it again."""
    origin = report.origin
    named = {"model": origin.source, "revision": origin.revision, "folder": origin.folder}
    known = {name: value for name, value in named.items() if value is not None}
    return join(
        el("pre", origin.command),
        _pairs("What was read and written", known) if known else None,
        _pairs("Versions", origin.versions),
        _pairs("Machine", origin.machine),
        _files("Files of the float model, as read", origin.source_files),
        _files("Files of the folder", origin.files),
        _folded("All options", origin.settings),
    )


def _pairs(name: str, facts: Mapping[str, str]) -> Markup:
    return table(name, ("what", "value"), [(k, el("bdi", v)) for k, v in facts.items()], words=(0, 1))


def _folded(name: str, facts: Mapping[str, str]) -> Markup | None:
    return el("details", el("summary", name), _pairs(name, facts)) if facts else None


def _files(name: str, files: tuple[HashedFile, ...]) -> Markup | None:
    if not files:
        return None
    rows = [(f.name, number(f.bytes, "{:,}"), el("code", f.sha256)) for f in files]
    return table(name, ("file", "bytes", "sha256"), rows, words=(0, 2))


SECTION = Section(90, "origin", "To repeat it", body)
