"""What is in a kit, and what kit.json says of it.

    kit/
      validate.py              runs on the device: Python >= 3.9, numpy and onnxruntime, nothing of this project
      kit.json, kit.sha256     this record, and its sha256 as ``sha256sum`` writes it
      tokens.npy               int64 [T], all sequences one after the other
      reference/int8.nll.npy   float64 [P]: the host's loss of every predicted token, nats, window by window
      reference/int8.top.npy   int32 [P, k]: the host's k likeliest tokens, likeliest first
      reference/int8.logp.npy  float32 [P, k]: their log-probabilities
      reference/fp32.*.npy     the same in fp32 compute
      model/                   the exported folder as it is

    kit.json = {"format": 1, "kind": "kit", "made_by": "dareq-edge 0.1.0",
      "model": {"source", "profile", "graph", "vocab_size", "context_length", "cache_bits"},
      "protocol": "gptq(window=512)", "weighting": "token" | "window", "chunk": 128,
      "windows": [[offset into tokens.npy, length, first predicted position], …],
      "sessions": {COMPUTE: {"optimization": …, "entries": {KEY: VALUE}}},    as in dareq.json
      "references": {COMPUTE: ScoreReport}, "tolerances": {COMPUTE: |ppl / ppl_host - 1| that passes},
      "cpus": names of CPUs, "features": those worth reporting (see ``cpus``),
      "files": {NAME: {"bytes", "sha256"}, …}}                                every file but kit.json and kit.sha256

A zip holds the same files in one folder, stored, not compressed, and beside it a __main__.py, with which
``python kit.zip`` unpacks and runs the kit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, get_args

from dareq_edge.errors import ArtifactError
from dareq_edge.manifest import FileEntry
from dareq_edge.records import typed
from dareq_edge.report import ScoreReport
from dareq_runtime.session import Compute
from dareq_runtime.verdict import FP32_COMPUTE, INT8_CACHE, INT8_COMPUTE, Tolerance

FORMAT = 1
KIT_JSON, DIGEST, TOKENS, VALIDATE = "kit.json", "kit.sha256", "tokens.npy", "validate.py"
MODEL, REFERENCE = "model", "reference"
_WEIGHTINGS = {name: name for name in ("token", "window")}
TOP = 32
"""Tokens of each of the host's predictions whose probabilities travel."""
COMPUTES: tuple[Compute, ...] = get_args(Compute)

PlainWindow = tuple[int, int, int]
"""(offset into tokens.npy, length, first predicted position)."""


@dataclass(frozen=True, slots=True)
class KitModel:
    """What a kit is about.

    Attributes:
        source: Hub id or folder that was quantized.
        profile: Of the export.
        graph: Path of the ONNX file within the kit.
        vocab_size: V.
        context_length: Longest sequence, tokens.
        cache_bits: Bits of a key's or value's number.
    """

    source: str
    profile: str
    graph: str
    vocab_size: int
    context_length: int
    cache_bits: int


@dataclass(frozen=True, slots=True)
class Kit:
    """The content of kit.json; see the module's docstring."""

    made_by: str
    model: KitModel
    protocol: str
    weighting: str
    chunk: int
    windows: tuple[PlainWindow, ...]
    sessions: Mapping[str, Mapping[str, Any]]
    references: Mapping[str, ScoreReport]
    tolerances: Mapping[str, float]
    cpus: Mapping[str, Mapping[str, str]]
    features: tuple[str, ...]
    files: Mapping[str, FileEntry]

    @property
    def counts(self) -> tuple[int, ...]:
        """Predicted tokens of each window."""
        return tuple(length - first for _, length, first in self.windows)

    def to_json(self) -> dict[str, Any]:
        """A plain dict, for ``json.dumps``."""
        references = {name: report.to_json() for name, report in self.references.items()}
        return {"format": FORMAT, "kind": "kit"} | asdict(self) | {"references": references}

    @classmethod
    def from_json(cls, data: Any, where: str) -> Kit:
        """Inverse of ``to_json``.

        Raises:
            ArtifactError: It is no kit, or of a format this version does not know.
        """
        if not isinstance(data, dict) or data.get("kind") != "kit":
            raise ArtifactError(f"{where} is not a kit; write one with dareq-edge bundle")
        if data.get("format") != FORMAT:
            raise ArtifactError(f"{where} has format {data.get('format')!r}, not {FORMAT}; update dareq-edge")
        try:
            fields = {name: data[name] for name in cls.__slots__}
            fields["model"] = typed(KitModel, data["model"])
            fields["protocol"], fields["weighting"] = str(data["protocol"]), _WEIGHTINGS[data["weighting"]]
            fields["windows"] = tuple((int(a), int(b), int(c)) for a, b, c in data["windows"])
            fields["references"] = {k: ScoreReport.from_json(v) for k, v in data["references"].items()}
            fields["features"] = tuple(data["features"])
            fields["files"] = {k: typed(FileEntry, v) for k, v in data["files"].items()}
            return cls(**fields)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ArtifactError(f"{where} lacks or mistypes {error}; bundle it again") from error


def tolerance(compute: str, cache_bits: int) -> Tolerance:
    """How far a device's perplexity may be from the host's in the same compute."""
    if compute == "int8":
        return INT8_COMPUTE
    return INT8_CACHE if cache_bits == 8 else FP32_COMPUTE


def digest_line(content: bytes) -> bytes:
    """What kit.sha256 holds for a kit.json of this content."""
    return f"{sha256(content).hexdigest()}  {KIT_JSON}\n".encode()


def reference_name(compute: str, part: str) -> str:
    """Name of a reference file, e.g. "reference/int8.nll.npy"; part is nll, top or logp."""
    return f"{REFERENCE}/{compute}.{part}.npy"


def plain_windows(windows: Sequence[Any], sequences: Sequence[Any]) -> tuple[PlainWindow, ...]:
    """Windows of a token set as places in tokens.npy.

    Args:
        windows: ``dareq_runtime.windows.Window`` each.
        sequences: int64 [T_i] each, as in ``TokenSet``.
    """
    offsets = [0]
    for ids in sequences:
        offsets.append(offsets[-1] + len(ids))
    return tuple((offsets[w.sequence] + w.start, len(w.ids), w.first) for w in windows)
