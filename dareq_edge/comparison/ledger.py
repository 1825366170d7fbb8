"""Ledger: finished work of a comparison in a folder, so that an interrupted one goes on with what is missing.

DIR/rows.json            every finished run by key; a key is a hash of everything that decides the result
DIR/checkpoints/NAME     a quantized checkpoint that is kept or not scored yet, and beside it
DIR/checkpoints/NAME.json  what it took to make it
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.comparison.records import Production, Run, Score
from dareq_edge.errors import ArtifactError
from dareq_edge.records import read_json

FORMAT = 1
NAME = "rows.json"
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


def key_of(*parts: object) -> str:
    """A hash of plain records, 16 hex digits."""
    text = json.dumps([FORMAT, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(checkpoint: Checkpoint) -> list[object]:
    """What tells one state of a model folder from another without reading its weights."""
    files = sorted({info.file for info in checkpoint.tensors.values()} | {checkpoint.folder / "config.json"})
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return [checkpoint.source, checkpoint.revision, stats]


class Ledger:
    """See the module's docstring.

    Args:
        folder: Existing folder.
        fresh: Forget what is there.

    Raises:
        ArtifactError: ``rows.json`` is not one of ours.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self._folder = folder
        self._fresh = fresh
        self._runs: dict[str, dict[str, Any]] = {}
        self._references: dict[str, dict[str, Any]] = {}
        self._continuations: dict[str, list[int]] = {}
        path = folder / NAME
        if path.is_file() and not fresh:
            self._runs, self._references, self._continuations = _read(path)

    def run(self, key: str, texts: Sequence[str]) -> Run | None:
        """A finished run, if it has a score for exactly these texts."""
        found = self._runs.get(key)
        run = None if found is None else Run.from_json(found)
        return run if run is not None and list(run.scores) == list(texts) else None

    def finish(self, key: str, label: str, run: Run) -> None:
        """Keep a finished run."""
        self._runs[key] = {"recipe": label, **run.to_json()}
        self._save()

    def reference(self, key: str, texts: Sequence[str]) -> dict[str, Score] | None:
        """Scores of a float model, if there is one for exactly these texts."""
        found = self._references.get(key)
        if found is None or list(found) != list(texts):
            return None
        return {label: Score.from_json(score) for label, score in found.items()}

    def finish_reference(self, key: str, scores: Mapping[str, Score]) -> None:
        """Keep the scores of a float model."""
        self._references[key] = {label: score.to_json() for label, score in scores.items()}
        self._save()

    def continuation(self, key: str) -> tuple[int, ...] | None:
        """What a model made of a prompt, tokens."""
        found = self._continuations.get(key)
        return None if found is None else tuple(found)

    def finish_continuation(self, key: str, ids: Sequence[int]) -> None:
        """Keep what a model made of a prompt."""
        self._continuations[key] = list(ids)
        self._save()

    def checkpoint(self, label: str, seed: int | None, key: str) -> Path:
        """Where the checkpoint of a run goes."""
        seeded = "" if seed is None else f"-seed{seed}"
        safe = label.replace(":", "-").replace("@", "-").replace("/", "-")
        folder = self._folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder / f"{safe}{seeded}-{key}"

    def produced(self, checkpoint: Path) -> Production | None:
        """What it took to make a checkpoint that is there already; ``None`` too where that cannot be read."""
        path = _beside(checkpoint)
        if self._fresh or not (checkpoint.is_dir() and path.is_file()):
            return None
        try:
            return Production.from_json(read_json(path))
        except _UNREADABLE:
            return None

    def note(self, checkpoint: Path, production: Production) -> None:
        """Remember what it took to make a checkpoint."""
        self._write(_beside(checkpoint), asdict(production))

    def discard(self, checkpoint: Path) -> None:
        """Remove a checkpoint that is scored."""
        shutil.rmtree(checkpoint, ignore_errors=True)
        _beside(checkpoint).unlink(missing_ok=True)

    def _save(self) -> None:
        record: dict[str, object] = {"format": FORMAT, "references": self._references, "runs": self._runs}
        if self._continuations:
            record["continuations"] = self._continuations
        self._write(self._folder / NAME, record)

    def _write(self, path: Path, record: Mapping[str, object]) -> None:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)


def _tokens(ids: Sequence[object]) -> list[int]:
    """Token ids in a record."""
    found = [i for i in ids if type(i) is int and 0 <= i < 1 << 31]
    if len(found) < len(ids):
        raise TypeError("continuations hold what is no token id")
    return found


def _beside(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.json")


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]], dict[str, list[int]]]:
    """Runs, references and continuations in rows.json."""
    try:
        data = read_json(path)
        for run in data["runs"].values():
            Run.from_json(run)
        for scores in data["references"].values():
            for score in scores.values():
                Score.from_json(score)
        runs, references = dict(data["runs"]), dict(data["references"])
        continuations = {key: _tokens(ids) for key, ids in data.get("continuations", {}).items()}
    except _UNREADABLE as error:
        raise ArtifactError(f"{path} cannot be read ({error!r:.200}); choose another --out or --overwrite") from error
    if data.get("format") != FORMAT:
        raise ArtifactError(f"{path} is not format {FORMAT}; choose another --out or --overwrite")
    return runs, references, continuations
