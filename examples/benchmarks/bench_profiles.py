"""Exported folders of one model side by side: a prompt and a step, in processor time of one thread.

    dareq-edge export opt/quantized --out opt/portable --profile portable
    python examples/benchmarks/bench_profiles.py opt/onnx opt/portable

All folders are open in one process and take turns; ratios are medians over rounds of (folder / first folder) in the
same round. Processor time, unlike the clock's, hardly depends on what else a machine does. ``--default`` opens the
later folders once more as a client does that sets nothing.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np

from dareq_edge.session_settings import SessionSettings
from dareq_runtime.decoder import Cache, extend
from dareq_runtime.folder import read_manifest
from dareq_runtime.session import Graph, open_graph

PROMPT, STEPS = 128, 24
PLAIN = SessionSettings("ORT_ENABLE_ALL")


def times(graph: Graph) -> tuple[float, float]:
    """Seconds of a prompt of PROMPT tokens, and of a step after it."""
    ids = np.random.default_rng(0).integers(0, graph.vocab_size, PROMPT)
    cache = Cache(graph, 1, PROMPT + STEPS)
    began = time.thread_time()
    extend(cache.lane(0, 1), ids, done=0, last_only=True)
    prompt = time.thread_time() - began
    step = cache.stepper(total=PROMPT)
    steps = []
    for token in ids[:STEPS]:
        began = time.thread_time()
        step([int(token)])
        steps.append(time.thread_time() - began)
    return prompt, median(steps[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--compute", choices=("int8", "fp32"), default="int8")
    parser.add_argument("--default", action="store_true", help="also without the settings of dareq.json")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    graphs: dict[str, Graph] = {}
    for folder in args.folders:
        manifest = read_manifest(folder)
        path, settings = folder / manifest.graph, manifest.sessions[args.compute]
        graphs[str(folder)] = open_graph(path, compute=args.compute, threads=1, settings=settings)
        if args.default and folder != args.folders[0]:
            graphs[f"{folder}, nothing set"] = open_graph(path, threads=1, settings=PLAIN)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in graphs}
    for _ in range(args.rounds):
        for name, graph in graphs.items():
            found[name].append(times(graph))
    first = found[str(args.folders[0])]
    print(f"{'':40}    step ms  ratio  prompt ms  ratio   (medians of {args.rounds} rounds)")
    for name, rows in found.items():
        cells = []
        for index in (1, 0):
            cells.append(f"{1e3 * median(row[index] for row in rows):10.2f}")
            cells.append(f"{median(a[index] / b[index] for a, b in zip(rows, first, strict=True)):6.3f}")
        print(f"{name[-40:]:40}", *cells)


if __name__ == "__main__":
    main()
