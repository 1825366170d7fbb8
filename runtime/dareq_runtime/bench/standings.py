"""Who takes part in a benchmark, and what came out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dareq_runtime.bench.kinds import Kind
from dareq_runtime.bench.sample import Lengths, Sample
from dareq_runtime.bench.summary import Spread


@dataclass(frozen=True, slots=True)
class Entrant:
    """One folder of a benchmark.

    Attributes:
        label: Its name in the table.
        kind: See ``kinds``.
        folder: Where it is.
        note: What a reader should know of it, or "".
    """

    label: str
    kind: Kind
    folder: Path
    note: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """One contestant's results.

    Attributes:
        entrant: Who.
        file_bytes: Graph and weights.
        folder_bytes: Every file of the folder.
        read_bytes: Weights that one token reads; see ``weights``.
        samples: One per round.
        metrics: ``Sample.metrics`` over the rounds.
    """

    entrant: Entrant
    file_bytes: int
    folder_bytes: int
    read_bytes: int
    samples: tuple[Sample, ...]
    metrics: dict[str, Spread]


@dataclass(frozen=True, slots=True)
class Bench:
    """A finished benchmark; the first standing is what the others are compared with.

    Attributes:
        standings: One per contestant, in the order given.
        bandwidth: Memory read bandwidth, bytes per second.
        lengths: What was measured.
        threads: Of every contestant.
    """

    standings: tuple[Standing, ...]
    bandwidth: Spread
    lengths: Lengths
    threads: int

    def floor(self, standing: Standing) -> float:
        """Seconds a token takes at least: its weights at the best bandwidth of this run (the cache not counted)."""
        return standing.read_bytes / self.bandwidth.high

    def to_json(self) -> dict[str, Any]:
        """Everything, seconds and bytes."""
        return {
            "threads": self.threads,
            "rounds": len(self.standings[0].samples),
            "new_tokens": self.lengths.new_tokens,
            "prompts": list(self.lengths.prompts),
            "contexts": list(self.lengths.contexts),
            "first_prompt": self.lengths.first_prompt,
            "bandwidth": self.bandwidth.to_json(),
            "contestants": [self._standing(s) for s in self.standings],
        }

    def _standing(self, s: Standing) -> dict[str, Any]:
        return {
            "label": s.entrant.label,
            "kind": s.entrant.kind,
            "folder": str(s.entrant.folder),
            "note": s.entrant.note,
            "file_bytes": s.file_bytes,
            "folder_bytes": s.folder_bytes,
            "read_bytes_per_token": s.read_bytes,
            "floor": self.floor(s),
            "metrics": {name: spread.to_json() for name, spread in s.metrics.items()},
            "samples": [sample.to_json() for sample in s.samples],
        }
