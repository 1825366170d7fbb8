"""Peak resident memory and speed of scoring, in this fresh process; Linux only (VmHWM).

    python examples/benchmarks/bench_scoring_memory.py FOLDER [--window 2048] [--windows 2] [--text FILE]

The bar: an OPT-125m shape with 2,048-token windows stays under 600 MB, weights included.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import dareq_runtime
from dareq_edge.folders import inside
from dareq_runtime.protocols.gptq import Gptq


def status(field: str) -> float:
    """A line of /proc/self/status, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--window", type=int)
    parser.add_argument("--windows", type=int, default=2, help="how many of them")
    parser.add_argument("--text", type=Path, help="the start of this text instead of random tokens")
    parser.add_argument("--compute", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--chunk", type=int, default=128)
    args = parser.parse_args()

    model = dareq_runtime.load(args.folder, compute=args.compute, threads=args.threads)
    files = model.folder.manifest.files
    on_disk = sum(inside(args.folder, name).stat().st_size for name in files) / 2**20
    print(f"on disk       {on_disk:8.1f} MB")
    print(f"after load    {status('VmRSS'):8.1f} MB resident, peak {status('VmHWM'):.1f} MB")

    protocol = Gptq(args.window).resolved(model.context_length)
    size = protocol.window or 0
    if args.text:
        whole = dareq_runtime.read_tokens(text=args.text, tokenizer=model.tokenizer)
        tokens = replace(whole, sequences=(whole.sequences[0][: size * args.windows],))
    else:
        ids = np.random.default_rng(0).integers(0, model.vocab_size, size * args.windows)
        tokens = dareq_runtime.TokenSet((ids,), "random tokens")
    print(f"with tokens   {status('VmRSS'):8.1f} MB resident, peak {status('VmHWM'):.1f} MB ({len(tokens)} tokens)")

    began = time.perf_counter()
    report = dareq_runtime.score(model, tokens, protocol, chunk=args.chunk)
    took = time.perf_counter() - began
    print(f"after scoring {status('VmRSS'):8.1f} MB resident, peak {status('VmHWM'):.1f} MB")
    print(f"{report.tokens} tokens in {took:.1f} s = {report.tokens / took:.0f} tokens/s, ppl {report.ppl:.4g}")


if __name__ == "__main__":
    main()
