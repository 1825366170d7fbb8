"""dareq.json: what is in a folder this project wrote, byte by byte. Standard library only.

    {"format": 1,
     "kind": "checkpoint" | "onnx",
     "source": "facebook/opt-125m", "revision": "…" | null,
     "profile": "native", "graph": "model.onnx",             form of the weights, and the ONNX file (kind "onnx" only)
     "sessions": {"int8" | "fp32": SessionSettings, …},      what onnxruntime must be told to compute in int8 or fp32
     "tensors": {NAME: {"shape": [N, K], "bits": 4, "scheme": "per channel", "method": "dareq",
                        "file": "model.onnx.data", "offset": 0, "bytes": 294912, "shares": null}, …},
     "files":   {NAME: {"bytes": 123, "sha256": "…"}, …},       every file of the folder except dareq.json
     "pieces":  {NAME: ["…", …], …},                            sha256 of every PIECE bytes of files larger than that
     "scores":  {LABEL: ScoreReport, …},
     "packed":  {NAME: {"container": "NAME.dqz", "bytes": 123, "sha256": "…"}, …},   packed folders only
     "sha256":  "…"}                                         packed folders only: of this text, see ``seal``

``file`` of a tensor is one of ``files``; ``offset`` is its first byte there, or null where the container
(safetensors) keeps its own index. ``shares`` names the tensor whose bytes these are: such a tensor adds nothing to
the size. ``profile``, ``graph`` and ``sessions`` may be absent: native, model.onnx, and
``session_settings.NATIVE_SESSIONS``. A reader may compare the pieces of a file in place of its sha256: several at a
time, where there are cores.

In a packed folder the files named under ``packed`` are not there: their bytes are in containers (see ``container``),
which are among ``files``; one of them holds dareq.json as it was before. ``tensors`` speaks of the unpacked files.
There the last "sha256" MUST be present, because nothing else vouches for this file, and a reader MUST compare it.

A reader MUST refuse a ``format`` it does not know and MUST NOT follow a name that leads out of the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from dareq_edge.errors import ArtifactError, SpecError
from dareq_edge.folders import inside, sha256_of
from dareq_edge.records import parse_json, read_bytes, typed
from dareq_edge.report import ScoreReport
from dareq_edge.seal import KEY, check_seal, sealed
from dareq_edge.session_settings import NATIVE_SESSIONS, SessionSettings

FORMAT = 1
NAME = "dareq.json"
GRAPH = "model.onnx"
PIECE = 4 << 20
"""Bytes that one of the hashes under "pieces" covers; the last piece of a file may be shorter."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One stored tensor; see the module's docstring."""

    shape: tuple[int, ...]
    bits: int
    scheme: str
    method: str | None
    file: str
    offset: int | None
    bytes: int
    shares: str | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and sha256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PackedEntry:
    """A file whose bytes are in a container.

    Attributes:
        container: The file that holds them, one of ``Manifest.files``.
        bytes: Size of the unpacked file.
        sha256: Hex, of the unpacked file.
    """

    container: str
    bytes: int
    sha256: str

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PackedEntry:
        """From its record; the size is computed with before anything vouches for it.

        Raises:
            TypeError: A key is missing or unknown, or a value of another type.
        """
        return typed(cls, data)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of dareq.json."""

    kind: str
    source: str
    revision: str | None = None
    tensors: Mapping[str, TensorEntry] = field(default_factory=dict)
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    pieces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scores: Mapping[str, ScoreReport] = field(default_factory=dict)
    profile: str = "native"
    graph: str = GRAPH
    sessions: Mapping[str, SessionSettings] = field(default_factory=lambda: NATIVE_SESSIONS)
    packed: Mapping[str, PackedEntry] = field(default_factory=dict)

    def expected_bytes(self, file: str) -> int:
        """Size that ``file`` must have, from the offsets and sizes of its tensors alone."""
        ends = [t.offset + t.bytes for t in self.tensors.values() if t.file == file and t.offset is not None]
        return max(ends, default=0)

    @property
    def graph_bytes(self) -> int:
        """Bytes of the ONNX file and of its external data."""
        return sum(entry.bytes for name, entry in self.files.items() if name.startswith(self.graph))

    def with_files(self, folder: Path) -> Manifest:
        """A copy that lists every file now in ``folder``, except dareq.json itself."""
        paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != NAME)
        files = {p.relative_to(folder).as_posix(): FileEntry(p.stat().st_size, sha256_of(p)) for p in paths}
        pieces = {name: piece_hashes(folder / name) for name, entry in files.items() if entry.bytes > PIECE}
        return replace(self, files=files, pieces=pieces)

    def with_scores(self, reports: Iterable[ScoreReport]) -> Manifest:
        """A copy with these reference scores added, keyed by label."""
        return replace(self, scores={**self.scores, **{r.label: r for r in reports}})

    def write(self, folder: Path) -> None:
        """Write ``folder/dareq.json``."""
        data = asdict(replace(self, sessions={}, scores={}))
        data |= {"sessions": {k: asdict(v) for k, v in self.sessions.items()}}
        data |= {"scores": {k: v.to_json() for k, v in self.scores.items()}}
        if self.kind != "onnx":
            data = {k: v for k, v in data.items() if k not in ("profile", "graph", "sessions")}
        if not self.packed:
            del data["packed"]
        text = json.dumps({"format": FORMAT} | data, indent=1, ensure_ascii=False)
        (folder / NAME).write_bytes((sealed(text) if self.packed else text + "\n").encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read ``folder/dareq.json``.

        Raises:
            ArtifactError: There is none, it is not valid, or its format is newer than this version.
        """
        try:
            content = read_bytes(folder / NAME)
            data: dict[str, Any] = parse_json(content)
        except FileNotFoundError as error:
            raise ArtifactError(f"no {NAME} in {folder}; this is not a folder dareq-edge wrote") from error
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder / NAME} cannot be read ({error}); write the folder again") from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ArtifactError(
                f"{folder / NAME} is not format {FORMAT}; update dareq-edge or write the folder again"
            )
        if KEY in data or "packed" in data:
            check_seal(content, data.get(KEY), str(folder / NAME))
        try:
            return cls(
                **_texts({"profile": "native", "graph": GRAPH} | data),
                sessions={**NATIVE_SESSIONS, **_sessions(data.get("sessions", {}))},
                tensors={k: _tensor(v) for k, v in data["tensors"].items()},
                files={k: typed(FileEntry, v) for k, v in data["files"].items()},
                pieces={k: tuple(map(str, v)) for k, v in data.get("pieces", {}).items()},
                scores={k: ScoreReport.from_json(v) for k, v in data["scores"].items()},
                packed={k: PackedEntry.from_json(v) for k, v in data.get("packed", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"{folder / NAME} lacks or mistypes {error}; write the folder again") from error

    def verify(self, folder: Path, *, hashes: bool = True) -> None:
        """Check that every listed file is there with its size and (``hashes``) sha256.

        Raises:
            ArtifactError: A file is missing, leads out of the folder, or differs.
        """
        for name, entry in self.files.items():
            path = inside(folder, name)
            if not path.is_file():
                raise ArtifactError(f"{name} is missing from {folder}; copy or export the folder again")
            if path.stat().st_size != entry.bytes:
                raise ArtifactError(f"{path} has {path.stat().st_size} bytes, expected {entry.bytes}; copy it again")
            if hashes and sha256_of(path) != entry.sha256:
                raise mismatch(path)


def _texts(data: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that are texts; only the revision may be none."""
    found = {name: data[name] for name in ("kind", "source", "revision", "profile", "graph")}
    for name, value in found.items():
        if not isinstance(value, str) and not (name == "revision" and value is None):
            raise TypeError(f"{name} {value!r:.80}")
    return found


def _tensor(data: dict[str, Any]) -> TensorEntry:
    shape = tuple(data["shape"])
    if not all(type(d) is int and 0 <= d < 1 << 63 for d in shape):
        raise TypeError(f"shape {shape!r:.80}")
    return typed(TensorEntry, data | {"shape": shape})


def _sessions(data: dict[str, Any]) -> dict[str, SessionSettings]:
    return {compute: SessionSettings.from_json(record) for compute, record in data.items()}


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model: its dareq.json says so, whatever else is wrong with it."""
    try:
        return Manifest.read(folder).kind == "onnx"
    except ArtifactError:
        return (folder / GRAPH).is_file()


def refuse_packed(folder: Path) -> None:
    """For what needs the files themselves; folders without a dareq.json that can be read are not refused.

    Raises:
        SpecError: The folder is packed.
    """
    try:
        packed = Manifest.read(folder).packed
    except ArtifactError:
        return
    if packed:
        raise SpecError(f"{folder} is packed; unpack it first: dareq-edge unpack {folder} --out {folder}-unpacked")


def verify_if_listed(folder: Path) -> None:
    """Compare a folder with its dareq.json, sha256 and all; one that has none, a plain Hugging Face folder, passes.

    Raises:
        ArtifactError: It has one that cannot be read, or a file is missing or differs.
    """
    if (folder / NAME).is_file():
        Manifest.read(folder).verify(folder)


def mismatch(path: Path) -> ArtifactError:
    """The error for a file whose content is not what dareq.json says."""
    return ArtifactError(f"{path} does not match its sha256 in {NAME}; copy or export the folder again")


def piece_hashes(path: Path) -> tuple[str, ...]:
    """sha256 of every ``PIECE`` bytes of a file, in order."""
    with path.open("rb") as file:
        return tuple(sha256(piece).hexdigest() for piece in iter(lambda: file.read(PIECE), b""))
