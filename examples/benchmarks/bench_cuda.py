"""Quantizers on a CUDA device against the CPU: the same codes and scales, and the time each takes.

    python -m examples.benchmarks.bench_cuda [--shape 4096x11008] [--repeat 3]

On a CUDA tensor a quantizer runs as vectorised torch, on a CPU tensor as numba kernels. Reported are the codes that
differ, the largest relative difference of a scale, and the median time after a first call.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from dareq_edge.qtensor import QuantizedTensor
    from dareq_edge.quantizers import Quantizer


def cases() -> dict[str, tuple[Quantizer, int, int | None]]:
    """Label → quantizer, bits, group size."""
    from dareq_edge.quantizers import build

    return {
        "rtn@64/4": (build("rtn"), 4, 64),
        "mse@64/4": (build("mse"), 4, 64),
        "dareq density/4": (build("dareq", {"entropy": "density"}), 4, None),
        "dareq probability/4": (build("dareq", {"entropy": "probability"}), 4, None),
        "entquant/8": (build("entquant"), 8, None),
    }


def timed(quantizer: Quantizer, weight: torch.Tensor, bits: int, group: int | None, repeat: int) -> tuple:
    """Result and median seconds."""
    from dareq_edge.spec import QuantSpec

    spec = QuantSpec(bits, group)
    found: QuantizedTensor = quantizer(weight, spec)
    seconds = []
    for _ in range(repeat):
        if weight.is_cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        found = quantizer(weight, spec)
        seconds.append(time.perf_counter() - start)
    return found, statistics.median(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="3072x768,4096x11008")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device is visible to torch", file=sys.stderr)
        return 1
    print(torch.cuda.get_device_name(), "torch", torch.__version__, "CPU threads", torch.get_num_threads())
    for shape in arguments.shape.split(","):
        n, k = map(int, shape.split("x"))
        weight = torch.randn(n, k, generator=torch.Generator().manual_seed(0)) * 0.02
        for label, (quantizer, bits, group) in cases().items():
            cpu, slow = timed(quantizer, weight, bits, group, arguments.repeat)
            gpu, quick = timed(quantizer, weight.cuda(), bits, group, arguments.repeat)
            codes = float(np.mean(cpu.codes != gpu.codes))
            scales = float(np.max(np.abs(cpu.scales - gpu.scales) / cpu.scales))
            print(
                f"{shape:>11} {label:20} codes {100 * codes:.5f} % differ, scales by {scales:.1e}; "
                f"CPU {1e3 * slow:8.1f} ms, CUDA {1e3 * quick:8.1f} ms"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
