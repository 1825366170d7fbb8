"""Ledger: finished work of a comparison in a folder, so that an interrupted one goes on with what is missing.

DIR/rows.json            every finished run by key; a key is a hash of everything that decides the result
DIR/checkpoints/NAME     a quantized checkpoint that is kept or not scored yet, and beside it
DIR/checkpoints/NAME.json  what it took to make it
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.comparison.records import Production, Run, Score
from dareq_edge.errors import ArtifactError

FORMAT = 1
NAME = "rows.json"


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
        path = folder / NAME
        if path.is_file() and not fresh:
            self._runs, self._references = _read(path)

    def run(self, key: str) -> Run | None:
        """A finished run."""
        found = self._runs.get(key)
        return None if found is None else Run.from_json(found)

    def finish(self, key: str, label: str, run: Run) -> None:
        """Keep a finished run."""
        self._runs[key] = {"recipe": label, **run.to_json()}
        self._save()

    def reference(self, key: str) -> dict[str, Score] | None:
        """Scores of a float model."""
        found = self._references.get(key)
        return None if found is None else {label: Score.from_json(score) for label, score in found.items()}

    def finish_reference(self, key: str, scores: Mapping[str, Score]) -> None:
        """Keep the scores of a float model."""
        self._references[key] = {label: score.to_json() for label, score in scores.items()}
        self._save()

    def checkpoint(self, label: str, seed: int | None, key: str) -> Path:
        """Where the checkpoint of a run goes."""
        seeded = "" if seed is None else f"-seed{seed}"
        safe = label.replace(":", "-").replace("@", "-").replace("/", "-")
        folder = self._folder / "checkpoints"
        folder.mkdir(exist_ok=True)
        return folder / f"{safe}{seeded}-{key}"

    def produced(self, checkpoint: Path) -> Production | None:
        """What it took to make a checkpoint that is there already."""
        path = _beside(checkpoint)
        if self._fresh or not (checkpoint.is_dir() and path.is_file()):
            return None
        return Production(**json.loads(path.read_text(encoding="utf-8")))

    def note(self, checkpoint: Path, production: Production) -> None:
        """Remember what it took to make a checkpoint."""
        self._write(_beside(checkpoint), asdict(production))

    def discard(self, checkpoint: Path) -> None:
        """Remove a checkpoint that is scored."""
        shutil.rmtree(checkpoint, ignore_errors=True)
        _beside(checkpoint).unlink(missing_ok=True)

    def _save(self) -> None:
        record = {"format": FORMAT, "references": self._references, "runs": self._runs}
        self._write(self._folder / NAME, record)

    def _write(self, path: Path, record: Mapping[str, object]) -> None:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(path)


def _beside(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}.json")


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Runs and references in rows.json."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        for run in data["runs"].values():
            Run.from_json(run)
        runs, references = dict(data["runs"]), dict(data["references"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error!r}); choose another --out or --overwrite") from error
    if data.get("format") != FORMAT:
        raise ArtifactError(f"{path} is not format {FORMAT}; choose another --out or --overwrite")
    return runs, references
