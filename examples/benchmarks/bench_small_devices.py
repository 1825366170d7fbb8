"""What each session option and each form of the file is worth on a small device: memory, load, speed, processor time.

    python examples/benchmarks/bench_small_devices.py FOLDER [--mobile FOLDER2] [--rounds 5] [--threads 2]

FOLDER is an exported one, FOLDER2 what ``dareq-edge mobile`` made of it. Every row is one option changed from
onnxruntime's defaults, in a fresh process; rounds are interleaved. Memory is what the session added to a Python
process that had imported everything: anon is memory of its own (heap), file is pages of mapped files, which the
system may take back at any time; "dropped" is file again after the model's pages were given back and 16 tokens
decoded. Steps are the least and the median over all rounds, processor the least, of 64 tokens after a prompt of 256.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort

from dareq_edge.manifest import Manifest
from dareq_runtime.decoder import Cache
from dareq_runtime.generation import prefill
from dareq_runtime.ort_format import MAPPED
from dareq_runtime.presets import PRESETS
from dareq_runtime.session import describe

PROMPT, TOKENS, AGAIN = 256, 64, 16
MADV_DONTNEED = 4

Change = Callable[[Any], None]


def entry(key: str, value: str) -> Change:
    return lambda options: options.add_session_config_entry(key, value)


def attribute(name: str, value: object) -> Change:
    return lambda options: setattr(options, name, value)


OPTIONS: Mapping[str, Change] = {
    "onnxruntime's defaults": lambda options: None,
    "graph level basic": attribute("graph_optimization_level", ort.GraphOptimizationLevel.ORT_ENABLE_BASIC),
    "weights outside the arena": entry("session.use_device_allocator_for_initializers", "1"),
    "no arena": attribute("enable_cpu_mem_arena", False),
    "no memory pattern": attribute("enable_mem_pattern", False),
    "no spinning": entry("session.intra_op.allow_spinning", "0"),
    "spinning stops after a run": entry("session.force_spinning_stop", "1"),
    "blocks of work shrink": entry("session.dynamic_block_base", "4"),
    **{f"preset {name}": preset.apply for name, preset in PRESETS.items()},
}
FORMS: Mapping[str, Change] = {
    "preset mobile": PRESETS["mobile"].apply,
    "preset mobile, file not mapped": lambda options: [
        change(options) for change in (PRESETS["mobile"].apply, *(entry(key, "0") for key in MAPPED))
    ],
}


@dataclass(frozen=True)
class Figures:
    """One process: MB (2^20), milliseconds, and the tokens."""

    load: float
    anon: float
    file: float
    peak: float
    anon_later: float
    file_later: float
    dropped: float
    step: float
    step_median: float
    processor: float
    tokens: tuple[int, ...]


def memory() -> dict[str, float]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.startswith(("Rss", "VmHWM", "VmRSS"))}


def drop_pages(model: Path) -> None:
    """Give back the pages of every mapping of the model's files, as the system does when memory is short."""
    libc = ctypes.CDLL(None, use_errno=True)
    for line in Path("/proc/self/maps").read_text().splitlines():
        if str(model.parent) in line:
            start, stop = (int(n, 16) for n in line.split()[0].split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(stop - start), MADV_DONTNEED)


def one(model: Path, name: str, threads: int) -> Figures:
    """One row in a fresh process."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if model.suffix == ".ort":
        for key, value in MAPPED.items():
            options.add_session_config_entry(key, value)
    {**OPTIONS, **FORMS}[name](options)
    options.intra_op_num_threads = threads
    before, began = memory(), time.perf_counter()
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    load, opened = time.perf_counter() - began, memory()
    graph = describe(session, model, threads)
    cache = Cache(graph, 1, PROMPT + TOKENS + AGAIN)
    ids = np.random.default_rng(0).integers(4, graph.vocab_size, PROMPT)
    logits = prefill(cache.lane(0, 1), ids, 0, PROMPT)
    step, tokens, times = cache.stepper(total=PROMPT), [int(np.argmax(logits))], list[float]()
    used = os.times()
    for _ in range(TOKENS):
        began = time.perf_counter()
        logits = step([tokens[-1]])
        times.append((time.perf_counter() - began) * 1e3)
        tokens.append(int(logits[0].argmax()))
    after, later = os.times(), memory()
    drop_pages(model)
    for _ in range(AGAIN):
        tokens.append(int(step([tokens[-1]])[0].argmax()))
    return Figures(
        load * 1e3,
        opened["RssAnon"] - before["RssAnon"],
        opened["RssFile"] - before["RssFile"],
        later["VmHWM"] - before["VmRSS"],
        later["RssAnon"] - before["RssAnon"],
        later["RssFile"] - before["RssFile"],
        memory()["RssFile"] - before["RssFile"],
        min(times),
        median(times),
        (after.user + after.system - used.user - used.system) / TOKENS * 1e3,
        tuple(tokens),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mobile", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    model = (args.folder / Manifest.read(args.folder).graph).resolve()
    rows = [(model, name) for name in OPTIONS]
    if args.mobile:
        converted = (args.mobile / Manifest.read(args.mobile).graph).resolve()
        rows += [(converted, name) for name in FORMS]
    found: dict[tuple[Path, str], list[Figures]] = {row: [] for row in rows}
    for _ in range(args.rounds):
        for row in rows:  # one process each: memory is measured from nothing
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[row].append(pool.apply(one, (*row, args.threads)))
    names = [f.name for f in fields(Figures) if f.name != "tokens"]
    print("| file | options | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 2))
    for (path, name), figures in found.items():
        best = [f"{(median if n == 'step_median' else min)(getattr(f, n) for f in figures):.1f}" for n in names]
        print(f"| {path.suffix} | {name} | " + " | ".join(best) + " |")
    print("tokens alike in all rows:", len({f.tokens for figures in found.values() for f in figures}) == 1)


if __name__ == "__main__":
    main()
