"""The built-in peers of ``bench``: built once into a folder, in a process of their own."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from dareq_edge.errors import ArtifactError, CheckpointError
from dareq_edge.folders import new_folder
from dareq_edge.progress import Progress
from dareq_runtime.folder import read_json

RECORD = "baseline.json"
_BUILDER = "dareq_edge.baselines.build"


@dataclass(frozen=True, slots=True)
class Source:
    """What the peers are made from.

    Attributes:
        model: A folder or a hub id.
        revision: Branch, tag or commit on the hub.
        random: Only the shape of ``model`` counts: its weights are made up.
    """

    model: str
    revision: str | None
    random: bool

    @classmethod
    def of(cls, folder: Path, model: str | None, revision: str | None) -> Source:
        """The float model if one is given, else random weights of the folder's shape.

        Raises:
            CheckpointError: Neither is possible.
        """
        if model is not None:
            return cls(model, revision, random=False)
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"{folder} has no config.json to make fp32 or ort-int4 from; give --model")
        return cls(str(folder), None, random=True)

    def key(self) -> str:
        """Tells one source from another without reading weights."""
        if self.random:
            config = read_json(Path(self.model) / "config.json")
            return sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        files = sorted(Path(self.model).glob("*.safetensors")) if Path(self.model).is_dir() else []
        stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return sha256(json.dumps([self.model, self.revision, stats]).encode()).hexdigest()


def prepare(name: str, source: Source, work: Path, progress: Progress) -> tuple[Path, str]:
    """The folder of a peer and what to know of it; built unless ``work`` has it from the same source.

    Args:
        name: One of ``dareq_edge.baselines.NAMES``.
        source: What it is made from.
        work: Existing folder.
        progress: Told when it is built.

    Raises:
        ArtifactError: It cannot be built, or something else is in its place.
        ImportError: optimum is not installed.
    """
    out, key = work / name, source.key()
    record = _known(out)
    if record is None and out.exists():
        raise ArtifactError(f"{out} exists and is not a baseline that dareq-edge built; choose another --work")
    if record is None or record["key"] != key:
        _require_optimum()
        progress(f"building {name}", 0, 1)
        with new_folder(out, overwrite=True) as scratch:
            record = {"key": key, **_build(name, source, scratch)}
            (scratch / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        progress(f"building {name}", 1, 1)
    return out, str(record["note"])


def _known(out: Path) -> dict[str, Any] | None:
    """What was recorded when the folder was built."""
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
        return {"key": record["key"], "note": record["note"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _build(name: str, source: Source, out: Path) -> dict[str, Any]:
    from dareq_runtime.bench.process import environment

    order = {"name": name, "source": source.model, "revision": source.revision, "random": source.random}
    done = subprocess.run(
        [sys.executable, "-m", _BUILDER],
        input=json.dumps({**order, "out": str(out)}),
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    try:
        record: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1][:240]
        record = {"error": f"its builder ended with exit code {done.returncode} ({last})"}
    if "error" in record:
        raise ArtifactError(f"{name}: {record['error']}; leave it out of --against")
    return record


def _require_optimum() -> None:
    """Say what to install before minutes of work.

    Raises:
        ModuleNotFoundError: optimum's exporter is missing.
    """
    for package in ("optimum", "optimum.exporters", "optimum.exporters.onnx"):
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
