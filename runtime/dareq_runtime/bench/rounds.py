"""Interleaved rounds: A B C A B C …, so that a machine that slows down favours nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dareq_edge.errors import SpecError
from dareq_edge.progress import Progress, silent
from dareq_runtime.bench.kinds import graph_file
from dareq_runtime.bench.process import run_bandwidth, run_job
from dareq_runtime.bench.sample import Job, Lengths, Sample
from dareq_runtime.bench.standings import Bench, Entrant, Standing
from dareq_runtime.bench.summary import Spread, summarize
from dareq_runtime.bench.weights import graph_weights


@dataclass(frozen=True, slots=True)
class Runners:
    """What measures; tests put others in their place."""

    job: Callable[[Job], Sample] = run_job
    bandwidth: Callable[[int], float] = run_bandwidth


def run_bench(
    entrants: Sequence[Entrant],
    lengths: Lengths,
    *,
    rounds: int,
    threads: int,
    runners: Runners | None = None,
    progress: Progress = silent,
) -> Bench:
    """Measure every contestant ``rounds`` times, the bandwidth at the start of each round.

    Args:
        entrants: At least one; the first is what the others are compared with.
        lengths: What is measured; must fit every contestant's context.
        rounds: 1 or more.
        threads: Of every contestant.
        runners: What measures; processes of their own by default.
        progress: Told of every measurement.

    Raises:
        SpecError: There is nothing to measure.
        ArtifactError: A folder lacks a file.
        BenchError: A contestant failed.
    """
    if rounds < 1:
        raise SpecError(f"rounds is {rounds}; use 1 or more")
    if not lengths.prompts and not lengths.contexts:
        raise SpecError("no prompt and no context length fits; give shorter --prompts or --contexts")
    weights = [graph_weights(graph_file(e.folder, e.kind)) for e in entrants]
    runners = runners or Runners()
    jobs = [Job(e.label, e.kind, e.folder, threads, lengths) for e in entrants]
    samples: list[list[Sample]] = [[] for _ in jobs]
    bandwidths = []
    total = rounds * len(jobs)
    for r in range(rounds):
        progress(f"round {r + 1} of {rounds}", r * len(jobs), total)
        bandwidths.append(runners.bandwidth(threads))
        for job, found in zip(jobs, samples, strict=True):
            found.append(runners.job(job))
            progress(f"round {r + 1} of {rounds}", sum(map(len, samples)), total)
    base = [sample.metrics() for sample in samples[0]]
    standings = tuple(
        Standing(
            entrant,
            weight.file_bytes,
            sum(path.stat().st_size for path in entrant.folder.rglob("*") if path.is_file()),
            weight.read_bytes,
            tuple(found),
            summarize([sample.metrics() for sample in found], None if found is samples[0] else base),
        )
        for entrant, weight, found in zip(entrants, weights, samples, strict=True)
    )
    return Bench(standings, Spread.of(bandwidths), lengths, threads)
