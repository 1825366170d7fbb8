"""bench: find the contestants, every mistake before any work, then measure them."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dareq_edge.baselines import NAMES
from dareq_edge.cli.baselines import Source, prepare
from dareq_edge.errors import SpecError
from dareq_edge.progress import Progress, silent
from dareq_runtime.bench.cores import default_threads
from dareq_runtime.bench.kinds import context_of, graph_file, kind_of
from dareq_runtime.bench.rounds import Runners, run_bench
from dareq_runtime.bench.sample import Lengths
from dareq_runtime.bench.standings import Bench, Entrant


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure.

    Attributes:
        folder: What the others are compared with.
        against: Names of ``baselines.NAMES`` and folders.
        lengths: Prompts, contexts, steps.
        model: Float model that the built-in peers are made from; ``None`` makes weights up.
        revision: Of the model, on the hub.
        rounds: 1 or more.
        threads: Of every contestant; ``None`` is one per core.
        work: Folder that keeps the built-in peers; ``None`` keeps nothing.
    """

    folder: Path
    against: Sequence[str]
    lengths: Lengths
    model: str | None = None
    revision: str | None = None
    rounds: int = 3
    threads: int | None = None
    work: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished benchmark and what a reader must know of it.

    Attributes:
        bench: The figures.
        notes: One sentence each.
    """

    bench: Bench
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The whole record; times in seconds, sizes in bytes."""
        environment = self.bench.standings[0].samples[0].environment
        return {**self.bench.to_json(), "notes": list(self.notes), "environment": environment}


def run(request: Request, progress: Progress = silent, runners: Runners | None = None) -> Outcome:
    """Measure.

    Args:
        request: What.
        progress: Told of every step.
        runners: What measures; processes of their own by default.

    Raises:
        DareqError: A folder, a name or an option cannot be used, before any long work starts; or a contestant failed.
        ImportError: A built-in peer needs optimum, which is not installed.
    """
    if request.rounds < 1:
        raise SpecError(f"--rounds is {request.rounds}; use 1 or more")
    if not request.lengths.prompts and not request.lengths.contexts:
        raise SpecError("there is no length to measure; give --prompts or --contexts")
    named = [against for against in request.against if against in NAMES]
    folders = {a: _folder(a) for a in request.against if a not in NAMES}
    found = [_entrant(request.folder), *(_entrant(path) for path in folders.values())]
    contexts = [context for e in found if (context := context_of(e.folder, e.kind)) is not None]
    lengths, left_out = request.lengths.within(min(contexts, default=None))
    if not lengths.prompts and not lengths.contexts:
        raise SpecError(f"{left_out[0]}; give shorter --prompts or --contexts")
    source = Source.of(request.folder, request.model, request.revision) if named else None
    notes = [f"left out: {note}" for note in left_out]
    with _place(request.work, needed=bool(named)) as work:
        known = {str(e.folder): e for e in found[1:]}
        entrants = [found[0]]
        for against in request.against:
            if source is not None and against in NAMES:
                path, note = prepare(against, source, work, progress)
                entrants.append(Entrant(against, "onnx", path, note))
            else:
                entrants.append(known[str(folders[against])])
        if source is not None and source.random:
            notes.append(f"{' and '.join(named)}: random weights of the same shape, which does not change the times")
        notes += [f"{e.label}: {e.note}" for e in entrants if e.note]
        threads = request.threads or default_threads()
        bench = run_bench(
            _distinct(entrants),
            lengths,
            rounds=request.rounds,
            threads=threads,
            runners=runners,
            progress=progress,
        )
    return Outcome(bench, tuple(notes))


def _folder(name: str) -> Path:
    """The folder that a word of --against means.

    Raises:
        SpecError: There is none, nor a built-in peer of that name.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"give a folder, {' or '.join(NAMES)}"
    raise SpecError(f"--against {name}: there is no such folder and no built-in peer of that name; {hint}")


def _entrant(folder: Path) -> Entrant:
    """A folder as a contestant.

    Raises:
        ArtifactError: It is of no known kind or incomplete.
    """
    kind = kind_of(folder)
    context_of(folder, kind)
    graph_file(folder, kind)
    return Entrant(folder.resolve().name, kind, folder)


def _distinct(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Labels that tell the contestants apart: the folder's whole path where its name is taken."""
    labels = [e.label for e in entrants]
    return [
        Entrant(str(e.folder), e.kind, e.folder, e.note) if labels.count(e.label) > 1 and e.label not in NAMES else e
        for e in entrants
    ]


@contextmanager
def _place(work: Path | None, *, needed: bool) -> Iterator[Path]:
    """The folder that the built-in peers are in: the user's, or a temporary one."""
    if work is None:
        with tempfile.TemporaryDirectory(prefix="dareq-bench-") as name:
            yield Path(name)
        return
    if needed:
        work.mkdir(parents=True, exist_ok=True)
    yield work
