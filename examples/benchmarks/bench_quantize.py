"""Time the DARE-Q scale search: against the literal numpy loop, and on the shapes of OPT-125m.

    python examples/benchmarks/bench_quantize.py [--repeat 2] [--entropy density probability] [--skip-literal]

The literal loop is ``dareq_edge.quantizers._search.best`` on every row (20 candidates, numpy.histogram each); its
scales are compared with the kernel's and must be identical. Weights are Gaussian, sigma 0.05, with a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch

from dareq_edge.plan import Entropy
from dareq_edge.quantizers import _search_numba, build
from dareq_edge.quantizers._search import Search, best, scale_grid
from dareq_edge.spec import QuantSpec

OPT_125M = [(12 * 4, 768, 768), (12, 3072, 768), (12, 768, 3072), (1, 50272, 768)]  # (how many, N, K): 72 + the head


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def literal(w: np.ndarray, search: Search) -> np.ndarray:
    grid = scale_grid(np.abs(w).max(axis=1), search)
    return np.array([scales[best(row, scales, search)] for row, scales in zip(w, grid, strict=True)])


def compare(entropy: Entropy, repeat: int) -> dict[str, object]:
    """The literal loop and the kernel on one 3072 x 768 matrix."""
    w = torch.randn(3072, 768, generator=torch.Generator().manual_seed(0)) * 0.05
    search = Search(entropy == "density", 7, 128, 1.0, 0.1, 20)
    _search_numba.choose(w[:8], search)  # compile, or load the compiled code
    kernel, scales = min(
        (timed(lambda: _search_numba.choose(w, search)) for _ in range(5 * repeat)), key=lambda r: r[0]
    )
    loop, expected = min((timed(lambda: literal(w.numpy(), search)) for _ in range(repeat)), key=lambda r: r[0])
    if not np.array_equal(scales.numpy(), expected):
        raise SystemExit(f"{entropy}: the kernel's scales differ from the literal loop's")
    return {"test": "3072x768", "entropy": entropy, "literal_s": loop, "kernel_s": kernel, "ratio": loop / kernel}


def whole_model(entropy: Entropy) -> dict[str, object]:
    """Quantize (search, codes, packing) the 72 linears and the head of OPT-125m's shape."""
    quantizer, spec = build("dareq", {"entropy": entropy}), QuantSpec(4)
    generator = torch.Generator().manual_seed(1)
    total, count = 0.0, 0
    for times, n, k in OPT_125M:
        for _ in range(times):
            w = torch.randn(n, k, generator=generator) * 0.05
            seconds, _ = timed(lambda w=w: quantizer(w, spec).packed())
            total, count = total + seconds, count + 1
    return {"test": "opt-125m shape", "entropy": entropy, "matrices": count, "seconds": total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--entropy", nargs="+", default=["density", "probability"])
    parser.add_argument("--skip-literal", action="store_true", help="only the whole model")
    arguments = parser.parse_args()
    print(json.dumps({"threads": numba.get_num_threads(), "load": os.getloadavg(), "numpy": np.__version__}))
    for entropy in arguments.entropy:
        if not arguments.skip_literal:
            print(json.dumps(compare(entropy, arguments.repeat)), flush=True)
        for _ in range(arguments.repeat):
            print(json.dumps(whole_model(entropy)), flush=True)


if __name__ == "__main__":
    main()
