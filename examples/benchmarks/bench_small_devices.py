"""What each session option and each form of the file is worth on a small device: memory, load, speed, processor time.

    python examples/benchmarks/bench_small_devices.py FOLDER [--ort FILE.ort …] [--forms] [--rounds 5] [--threads 2]

FOLDER is an exported one, the files what ``dareq-edge mobile`` or onnxruntime's own tool made of it; --forms leaves
out the rows that compare options. Every row is one option changed from
onnxruntime's defaults, in a fresh process; rounds are interleaved. Memory in MB (2^20): "anon" is what the session
added to the heap of a process that had imported everything, "mapped" the resident pages of the model's files, which
the system may take back at any time; "later" is after a prompt of 256 and 64 tokens, "dropped" is mapped again after
those pages were given back and 16 more tokens decoded. Keys and values are elsewhere and in no column but "peak",
which counts everything since before loading. Times in ms: "step" is the least and the median of a token, "processor"
what all threads together took for one; the least (step_median: the median) of the rounds.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
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
MAP = "session.use_memory_mapped_ort_model"

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
    "one thread": attribute("intra_op_num_threads", 1),
    **{f"preset {name}": preset.apply for name, preset in PRESETS.items()},
}
FORMS: Mapping[str, Sequence[Change]] = {
    "onnxruntime's defaults": (),
    "weights outside the arena": (OPTIONS["weights outside the arena"],),
    "mapped": (entry(MAP, "1"),),
    "mapped, weights in place": tuple(entry(*pair) for pair in MAPPED.items()),
    "the same, preset mobile": (*(entry(*pair) for pair in MAPPED.items()), PRESETS["mobile"].apply),
}
SHORT = ("onnxruntime's defaults", "preset mobile")


@dataclass(frozen=True)
class Figures:
    """One process; see the module's docstring."""

    load: float
    anon: float
    mapped: float
    peak: float
    anon_later: float
    mapped_later: float
    dropped: float
    step: float
    step_median: float
    processor: float
    tokens: tuple[int, ...]


def memory(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) / 1024


def mapped(model: Path) -> float:
    """Resident pages of the files beside the model."""
    kilobytes, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            ours = str(model.parent) in line
        elif ours and line.startswith("Rss:"):
            kilobytes += int(line.split()[1])
    return kilobytes / 1024


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
    options.intra_op_num_threads = threads
    for change in FORMS[name] if model.suffix == ".ort" else (OPTIONS[name],):
        change(options)
    heap, total, began = memory("RssAnon"), memory("VmRSS"), time.perf_counter()
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    load, anon, files = (time.perf_counter() - began) * 1e3, memory("RssAnon") - heap, mapped(model)
    graph = describe(session, model, options.intra_op_num_threads)
    cache = Cache(graph, 1, PROMPT + TOKENS + AGAIN)
    ids = np.random.default_rng(0).integers(4, graph.vocab_size, PROMPT)
    tokens, times = [int(np.argmax(prefill(cache.lane(0, 1), ids, 0, PROMPT)))], list[float]()
    step, used = cache.stepper(total=PROMPT), os.times()
    for _ in range(TOKENS):
        began = time.perf_counter()
        logits = step([tokens[-1]])
        times.append((time.perf_counter() - began) * 1e3)
        tokens.append(int(logits[0].argmax()))
    after = os.times()
    processor = (after.user + after.system - used.user - used.system) / TOKENS * 1e3
    later = memory("VmHWM") - total, memory("RssAnon") - heap, mapped(model)
    drop_pages(model)
    for _ in range(AGAIN):
        tokens.append(int(step([tokens[-1]])[0].argmax()))
    return Figures(load, anon, files, *later, mapped(model), min(times), median(times), processor, tuple(tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ort", type=Path, nargs="*", default=[])
    parser.add_argument("--forms", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    model = (args.folder / Manifest.read(args.folder).graph).resolve()
    rows = [(model, name) for name in (SHORT if args.forms else OPTIONS)]
    rows += [(path.resolve(), name) for path in args.ort for name in FORMS]
    found: dict[tuple[Path, str], list[Figures]] = {row: [] for row in rows}
    for _ in range(args.rounds):
        for row in rows:  # one process each: memory is measured from nothing
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found[row].append(pool.apply(one, (*row, args.threads)))
    names = [f.name for f in fields(Figures) if f.name != "tokens"]
    print("| file | options | " + " | ".join(names) + " |\n|" + "---|" * (len(names) + 2))
    for (path, name), figures in found.items():
        best = [f"{(median if n == 'step_median' else min)(getattr(f, n) for f in figures):.1f}" for n in names]
        print(f"| {path.parent.name}/{path.name} | {name} | " + " | ".join(best) + " |")
    print("tokens alike in all rows:", len({f.tokens for figures in found.values() for f in figures}) == 1)


if __name__ == "__main__":
    main()
