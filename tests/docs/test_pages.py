"""What the pages say is so: messages are in the source, links lead somewhere, records have their fields."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

import dareq_edge
from dareq_edge.manifest import FORMAT, PIECE, FileEntry, Manifest, PackedEntry, TensorEntry
from dareq_edge.report import ScoreReport
from dareq_edge.session_settings import SessionSettings
from pages import DOCS, GAP, PAGES, ROOT, blocks, sentences

RECORDS = (Manifest, TensorEntry, FileEntry, PackedEntry, ScoreReport, SessionSettings)


def quoted(page: Path) -> list[str]:
    """Messages of a troubleshooting page: the first cell of every row of a table that explains messages."""
    found = []
    for table in re.findall(
        r"^\| message \|.*\n\|---.*\n((?:\|.*\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE
    ):
        for row in table.splitlines():
            cell = re.match(r"\| `(.*?)` \| ", row)
            assert cell, f"this row quotes no message: {row}"
            found.append(cell[1].replace("``", "`"))
    return found


def test_every_message_of_the_page_is_in_the_source() -> None:
    known = set(sentences())
    messages = quoted(DOCS / "troubleshooting.md")
    assert len(messages) >= 40
    missing = [m for m in messages if not any(m in text for text in known)]
    assert not missing, f"no longer in the source: {missing}"
    assert all(len(m.replace(GAP, "").strip()) > 15 for m in messages), (
        "a message that says too little would match all"
    )


def test_a_message_that_is_not_in_the_source_would_be_seen() -> None:
    assert not any(f"the moon is {GAP}; wait until tomorrow" in text for text in sentences())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not link.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_architecture_names_every_subpackage() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    for root in ("", "export", "runtime"):
        for path in (ROOT / root).glob("dareq_*/*/__init__.py"):
            assert f"`{path.parts[-3]}.{path.parts[-2]}`" in text, f"{path} is not named"


def test_the_artefact_page_explains_every_field() -> None:
    text = (DOCS / "artefact.md").read_text(encoding="utf-8")
    for record in RECORDS:
        for field in dataclasses.fields(record):
            assert f"`{field.name}`" in text, f"{record.__name__}.{field.name} is not explained"
    assert f"| `format` | {FORMAT} |" in text
    assert PIECE == 4 << 20


def test_the_artefact_page_s_example_is_a_manifest(tmp_path: Path) -> None:
    (example,) = blocks(DOCS / "artefact.md", "json")
    (tmp_path / "dareq.json").write_text(example, encoding="utf-8")
    manifest = Manifest.read(tmp_path)
    assert manifest.expected_bytes("model.onnx.data") == manifest.files["model.onnx.data"].bytes
    manifest.write(tmp_path)
    again = json.loads((tmp_path / "dareq.json").read_text(encoding="utf-8"))
    assert set(again) == set(json.loads(example))
    assert set(again["tensors"].popitem()[1]) == set(json.loads(example)["tensors"].popitem()[1])


def test_citation_and_changelog_are_of_this_version() -> None:
    assert f"\nversion: {dareq_edge.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {dareq_edge.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_commands_on_the_pages_exist() -> None:
    from dareq_edge.cli.app import app

    known = {command.name for command in app.registered_commands}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        code = [line for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        code += re.findall(r"`(dareq-edge [^`\n]+)`", text)
        for name in (found[1] for line in code if (found := re.match(r"\s*dareq-edge ([a-z]+)", line))):
            assert name in known, f"{page.name} tells to run dareq-edge {name}"
