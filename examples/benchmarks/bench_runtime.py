"""What the runtime adds to the kernels: load, Python per token, chunk sizes, passes of a few tokens, presets.

    python examples/benchmarks/bench_runtime.py FOLDER [--threads 1] [--rounds 5]

Least of the rounds, which are interleaved: what the work costs when nothing disturbs it. With --threads 1 times are
processor times of the calling thread, which other processes disturb little; with more they are wall times.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np

from dareq_edge.folders import inside, sha256_of
from dareq_runtime import OnnxModel, load
from dareq_runtime.decoder import Cache, extend
from dareq_runtime.folder import read_manifest
from dareq_runtime.generation import prefill
from dareq_runtime.presets import Preset
from dareq_runtime.session import Graph, open_graph
from dareq_runtime.tokenizer import read_tokenizer

TOKENS, CONTEXT = 128, 1024


def least(
    work: Mapping[Hashable, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[Hashable, float]:
    """Milliseconds of each, the least of interleaved rounds; the first round is not counted."""
    times: dict[Hashable, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, run in work.items():
            began = clock()
            run()
            times[name].append((clock() - began) * 1e3)
    return {name: min(found[1:]) for name, found in times.items()}


def show(title: str, times: Mapping[Hashable, float], unit: str = "ms") -> None:
    print(f"{title}: " + ", ".join(f"{name} {value:.2f}" for name, value in times.items()) + f" {unit}")


def loading(folder: Path, rounds: int) -> None:
    """Parts of ``load``, wall time."""
    large = [inside(folder, n) for n, f in read_manifest(folder).files.items() if f.bytes >= 2**20]
    work = {
        "manifest": lambda: read_manifest(folder),
        "sha256": lambda: [sha256_of(path) for path in large],
        "session": lambda: open_graph(folder / read_manifest(folder).graph),
        "tokenizer (when first used)": lambda: read_tokenizer(folder),
        "load": lambda: load(folder),
        "load, sizes only": lambda: load(folder, verify=False),
    }
    show("loading, wall", least(work, rounds, time.perf_counter))


def python_per_token(graph: Graph, rounds: int) -> None:
    """A step with the pass itself left out."""
    idle = SimpleNamespace(io_binding=graph.session.io_binding, run_with_iobinding=lambda binding: None)
    step = Cache(replace(graph, session=idle), 1, 64).stepper()
    work = {"a step without its pass": lambda: [step([5], total=20) for _ in range(1000)]}
    show("Python", least(work, rounds, time.thread_time), "us")  # ms per 1,000


def passes(graph: Graph, rounds: int, clock: Callable[[], float]) -> None:
    ids = np.random.default_rng(0).integers(4, graph.vocab_size, CONTEXT + 64)
    cache = Cache(graph, 1, len(ids))
    lane, step = cache.lane(0, 1), cache.stepper()
    prefill(lane, ids[:CONTEXT], 0, 256)
    at = {c: lambda c=c: step([5], total=c) for c in (16, 128, 512, CONTEXT)}
    show("a step at context", least(at, rounds * 4, clock))
    several = {n: lambda n=n: extend(lane, ids[:n], done=128) for n in (1, 2, 4, 8)}
    show("a pass of n tokens at 128, head on all", least(several, rounds * 4, clock))
    for total in (128, 512, CONTEXT):
        sizes = [c for c in (32, 64, 128, 256, 512, 1024) if c <= total]
        prompts = {c: lambda c=c, n=total: prefill(lane, ids[:n], 0, c) for c in sizes}
        show(f"prompt of {total} by chunk", least(prompts, rounds, clock))


def resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def one_preset(folder: Path, preset: Preset, threads: int | None) -> str:
    """Figures of one preset in a fresh process."""
    model: OnnxModel = load(folder, preset=preset, threads=threads)
    loaded = resident()
    model.generate([5] * 512, max_new_tokens=8, stop_ids=[])
    step = Cache(model.graph, 1, TOKENS + 8).stepper()
    for _ in range(8):
        step([5])
    before, times = os.times(), []
    for _ in range(TOKENS):
        began = time.perf_counter()
        step([5])
        times.append((time.perf_counter() - began) * 1e3)
    after = os.times()
    cpu = (after.user + after.system - before.user - before.system) / TOKENS * 1e3
    return (
        f"preset {preset}, threads {model.threads or 'all'}: step {min(times):.2f} (least) {np.median(times):.2f} "
        f"(median) ms, processor {cpu:.2f} ms per token, resident {loaded:.0f} -> {resident():.0f} MB (2^20)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    clock = time.thread_time if args.threads == 1 else time.perf_counter
    loading(args.folder, args.rounds)
    graph = load(args.folder, threads=args.threads).graph
    python_per_token(graph, args.rounds)
    passes(graph, args.rounds, clock)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for preset in get_args(Preset):
            print(pool.apply(one_preset, (args.folder, preset, args.threads)))


if __name__ == "__main__":
    main()
