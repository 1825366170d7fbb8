"""Names and texts out of a file neither command the terminal nor count as markup."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dareq_edge.cli import console, main
from dareq_edge.errors import ArtifactError
from dareq_edge.manifest import NAME, Manifest, TensorEntry

ESCAPES = "\x1b]0;owned\x07\x1b[2J\n\u202e[/bold]\x9b"


def test_an_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / NAME).write_text(json.dumps({"format": 1, "kind": ESCAPES}))
    assert main(["inspect", str(tmp_path)]) == 1
    (tmp_path / NAME).write_text(json.dumps(_manifest(tmp_path) | {"files": {ESCAPES: {"bytes": 1, "sha256": ""}}}))
    assert main(["inspect", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == captured.err.count("error: ") == 2
    assert not set(captured.err) & set("\x1b\x07\u202e\x9b")


def test_an_error_is_no_longer_than_can_be_read() -> None:
    assert str(ArtifactError("what and where " + "x" * 20_000 + "; what to do")).startswith("what and where xx")
    assert str(ArtifactError("what and where " + "x" * 20_000 + "; what to do")).endswith("xx; what to do")
    assert len(str(ArtifactError("x" * 20_000))) == 999
    assert str(ArtifactError("x" * 1000)) == "x" * 1000


def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / NAME).write_text(json.dumps(_manifest(tmp_path)))
    assert main(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "[/bold]" in shown
    assert not set(shown) & set("\x1b\x07\u202e\x9b")


def test_generated_text() -> None:
    assert console.harmless("a\tb\n\u00e9 \x1b[2J\x9b\r\x00") == "a\tb\n\u00e9 \ufffd[2J\ufffd\ufffd\ufffd"


def _manifest(folder: Path) -> dict[str, object]:
    tensor = TensorEntry((2, 2), 4, ESCAPES, ESCAPES, "f", None, 2)
    Manifest("checkpoint", ESCAPES, tensors={ESCAPES: tensor}).write(folder)
    return dict(json.loads((folder / NAME).read_text()))
