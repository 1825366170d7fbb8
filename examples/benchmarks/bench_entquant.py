"""Time EntQuant: closed-form scales against the published L-BFGS, and a whole model from end to end.

    python -m examples.benchmarks.bench_entquant MODEL [--matrices 3] [--rounds 5] [--skip-lbfgs]

Prints one JSON record per line: for one matrix of each shape and each published lambda the CPU seconds of both
solvers and how far their codes differ; weights per second over all linears of the model, by the clock and per CPU
second; seconds of ``quantize_checkpoint``; and what that makes of 70 billion weights. The figure leaves out reading
and writing files of that size, and supposes matrices like these. CPU seconds are those of all threads, and little
disturbed by what else the machine does; cores that share memory bandwidth do not add up to their number.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from dareq_edge import recipes
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.comparison.floats import linear_modules
from dareq_edge.matrix import matrix_of
from dareq_edge.plan import QuantOptions
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.quantizers._entquant_lbfgs import optimize
from dareq_edge.quantizers._entquant_rows import Magnitudes, closed_form
from dareq_edge.quantizers._grid import encode_rows, round_half_even, stored_scales
from dareq_edge.quantizers._rate import entropy_bits
from dareq_edge.quantizers.entquant import EntQuant
from dareq_edge.spec import QuantSpec

SPEC = QuantSpec(8, None, "float32", "entquant")
LAMBDAS = (3.9, 14.5, 58.0)
LARGE = 70e9
Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[float, float, Result]:
    """Seconds by the clock, CPU seconds, and what came out."""
    start, used = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - start, time.process_time() - used, result


def show(**record: object) -> None:
    print(json.dumps(record), flush=True)


def matrices(source: str) -> dict[str, torch.Tensor]:
    """Every linear of the model, float32, by module."""
    checkpoint = Checkpoint.open(source)
    model = checkpoint.empty_model()
    names = checkpoint.bind(model)
    linears = sorted(linear_modules(model, QuantOptions()))
    return {
        m: matrix_of(model.get_submodule(m), checkpoint.tensor(names[f"{m}.weight"])).float().contiguous()
        for m in linears
    }


def coded(w: torch.Tensor, scales: torch.Tensor) -> tuple[QuantizedTensor, float]:
    """Codes, and their relative L1 error."""
    value = encode_rows(w, stored_scales(scales, SPEC), SPEC, round_half_even)
    error = np.abs(value.dequantize() - w.numpy()).sum(dtype=np.float64)
    return value, float(error / np.abs(w.numpy()).sum(dtype=np.float64))


def compare(name: str, w: torch.Tensor, lam: float, rounds: int) -> None:
    """Both solvers' scales of one matrix; codes and statistics are not timed."""
    fast = [timed(lambda: closed_form(w, Magnitudes.of(w), lam, float8=False)) for _ in range(rounds)]
    _, slow_cpu, published = timed(lambda: optimize(w, lam, name, float8=False))
    fast += [timed(lambda: closed_form(w, Magnitudes.of(w), lam, float8=False)) for _ in range(rounds)]
    fast_cpu = float(np.median([cpu for _, cpu, _ in fast]))
    (theirs, error), (mine, own) = coded(w, published), coded(w, fast[0][2])
    show(
        test="solvers", matrix=name, shape=list(w.shape), lam=lam,
        lbfgs_cpu_s=slow_cpu, closed_form_cpu_s=fast_cpu, ratio=slow_cpu / fast_cpu,
        lbfgs_bits=entropy_bits(theirs.codes), bits_more=entropy_bits(mine.codes) - entropy_bits(theirs.codes),
        lbfgs_l1=error, l1_more=own / error - 1,
    )  # fmt: skip


def whole(linears: dict[str, torch.Tensor], rounds: int) -> float:
    """Scales and codes of all linears from memory, in the median round; weights per CPU second."""
    count, quantizer = sum(w.numel() for w in linears.values()), EntQuant()
    runs = [timed(lambda: [quantizer(w, SPEC, name) for name, w in linears.items()]) for _ in range(rounds)]
    clock, cpu = (count / float(np.median([run[i] for run in runs])) for i in range(2))
    show(test="all linears", weights=count, weights_per_second=clock, weights_per_cpu_second=cpu)
    return cpu


def end_to_end(source: str, settings: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        options = QuantOptions(scale_dtype="bfloat16", table_bits=8, position_bits=8)
        recipe = recipes.build("entquant", settings)
        seconds, cpu, _ = timed(lambda: quantize_checkpoint(source, Path(folder) / "q", options, recipe))
    show(test="quantize_checkpoint", **settings, seconds=seconds, cpu_seconds=cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a float checkpoint")
    parser.add_argument("--matrices", type=int, default=3, help="shapes on which both solvers run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip-lbfgs", action="store_true", help="only the closed form")
    arguments = parser.parse_args()
    show(threads=torch.get_num_threads(), load=os.getloadavg(), torch=torch.__version__)
    linears = matrices(arguments.model)
    shapes: dict[tuple[int, ...], str] = {}
    for name, w in linears.items():
        shapes.setdefault(tuple(w.shape), name)
    closed_form(
        next(iter(linears.values())), Magnitudes.of(next(iter(linears.values()))), 1.0, float8=False
    )  # compiles
    if not arguments.skip_lbfgs:
        for name in list(shapes.values())[: arguments.matrices]:
            for lam in LAMBDAS:
                compare(name, linears[name], lam, arguments.rounds)
    rate = whole(linears, arguments.rounds)
    del linears
    for settings in ({}, {"target_bits": 3.0}, {"target_bits": 3.0, "codes": "float8"}):
        end_to_end(arguments.model, settings)
    show(test="70 billion weights, scales and codes alone", cpu_hours=LARGE / rate / 3600)


if __name__ == "__main__":
    main()
