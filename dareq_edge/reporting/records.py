"""What a report shows, as plain records; every section of the page reads these and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dareq_edge.comparison.records import Comparison
    from dareq_edge.report import ScoreReport
    from dareq_edge.reporting.statistics import WeightStats
    from dareq_runtime.verdict import LinkReport

State = Literal["passed", "FAILED", "measured", "incomplete"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the page says at its top.

    Attributes:
        state: "measured" where nothing was judged, "incomplete" where a part of the work failed.
        sentence: What that means here.
        reasons: One sentence each.
    """

    state: State
    sentence: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SizeRow:
    """One bar.

    Attributes:
        label: What it is the size of.
        bytes: How large.
        kind: "base" is what the others are compared with; "memory" is not compared.
        note: Where the number is from.
    """

    label: str
    bytes: int
    kind: Literal["base", "disk", "download", "memory"]
    note: str


@dataclass(frozen=True, slots=True)
class BlockEntropies:
    """EWQ's entropy of every decoder block of the float model, nats; see ``dareq_edge.allocation.entropy``."""

    values: tuple[float, ...]
    epsilon: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What one model made of the prompt.

    Attributes:
        label: Of the model, as in the scores.
        ids: New tokens.
        text: Theirs.
        same: How many tokens from the first on are those of the first model.
    """

    label: str
    ids: tuple[int, ...]
    text: str
    same: int


@dataclass(frozen=True, slots=True)
class Samples:
    """The same prompt and random numbers, given to several models; ``how`` says which."""

    prompt: str
    how: str
    rows: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A file and its sha256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Origin:
    """All that is needed to do it again.

    Attributes:
        command: What to type.
        when: UTC.
        machine: Facts about the machine by name.
        versions: Of this package and those it used, by name.
        source: The float model as the user named it; ``None`` where it is unknown.
        revision: Its commit, for a model of the hub.
        source_files: Its files, as they were read.
        folder: What was made or measured.
        files: Its files; of a folder that was not written, those that were judged.
        settings: Options and their values, those not given too.
    """

    command: str
    when: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    source: str | None = None
    revision: str | None = None
    source_files: tuple[HashedFile, ...] = ()
    folder: str | None = None
    files: tuple[HashedFile, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """One page.

    Attributes:
        command: "deploy", "compare", "eval" or "parity".
        subject: The model's or folder's name.
        verdict: For the top.
        origin: For repeating it.
        sizes: Bars, the base first.
        scores: Perplexities, in the chain's order.
        links: Comparisons of neighbours.
        weights: Of every quantized matrix.
        entropies: Of the float model's blocks.
        comparison: Of several recipes.
        samples: Generated text.
        absent: Why something is not on the page, by what it is.
    """

    command: str
    subject: str
    verdict: Verdict
    origin: Origin
    sizes: tuple[SizeRow, ...] = ()
    scores: tuple[ScoreReport, ...] = ()
    links: tuple[LinkReport, ...] = ()
    weights: WeightStats | None = None
    entropies: BlockEntropies | None = None
    comparison: Comparison | None = None
    samples: Samples | None = None
    absent: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """A plain dict: every number of the page and no other text of it."""
        return {
            "command": self.command,
            "subject": self.subject,
            "verdict": asdict(self.verdict),
            "origin": asdict(self.origin),
            "sizes": [asdict(row) for row in self.sizes],
            "scores": [score.to_json() for score in self.scores],
            "links": [asdict(link) for link in self.links],
            "weights": None if self.weights is None else self.weights.to_json(),
            "entropies": None if self.entropies is None else asdict(self.entropies),
            "comparison": None if self.comparison is None else self.comparison.to_json(),
            "samples": None if self.samples is None else asdict(self.samples),
            "absent": dict(self.absent),
        }
