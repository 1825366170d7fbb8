"""Load time and peak memory of a packed folder against the same folder unpacked, each load in a fresh process.

    python -m examples.benchmarks.bench_packed                     OPT-125m shapes of random weights: int4, entquant
    python -m examples.benchmarks.bench_packed opt-125m-int4 …     exported folders; they are packed for it

Bars, on an OPT-125m shape: at most 0.5 s longer to load, and at most 1.3 times the unpacked size more memory at its
most than the session of the unpacked folder takes at its most. Processor time is what a busy machine leaves
comparable. Rounds alternate between the two; medians count.
Memory is that of the whole process above what imports take (VmHWM, so Linux only); loads compare every sha256.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from dareq_edge.packed import pack_folder

CHILD = """
import json, sys, time
import numpy, onnxruntime
from dareq_runtime import load
from dareq_runtime.bench.memory import peak_resident, resident
imports = peak_resident()
start, used = time.perf_counter(), time.process_time()
model = load(sys.argv[1], compute=sys.argv[2])
seconds, cpu = time.perf_counter() - start, time.process_time() - used
peak, after = peak_resident() - imports, resident() - imports
best = int(model.logits([5, 6, 7])[-1].argmax())
print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "after": after, "argmax": best}))
"""


def measure(folder: Path, compute: str) -> dict[str, float]:
    """One load in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), compute], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"loading {folder} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def middle(samples: Sequence[Mapping[str, float]], key: str) -> float:
    """The median of one figure."""
    return median(sample[key] for sample in samples)


def bench(plain: Path, packed: Path, rounds: int, compute: str) -> None:
    """Measure and print one pair of folders."""
    pairs = [(measure(plain, compute), measure(packed, compute)) for _ in range(rounds + 1)][1:]  # the first warms up
    before, after = [p[0] for p in pairs], [p[1] for p in pairs]
    assert {s["argmax"] for s in before} == {s["argmax"] for s in after}
    sizes = [sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) for folder in (plain, packed)]
    longer = [b["seconds"] - a["seconds"] for a, b in pairs]
    more = middle(after, "peak") - middle(before, "peak")
    own = middle(after, "peak") - middle(after, "after")
    print(f"{plain.name}, {compute} compute: {sizes[0] / 1e6:.1f} MB unpacked, {sizes[1] / 1e6:.1f} MB packed")
    for name, samples in (("unpacked", before), ("packed", after)):
        seconds, cpu, peak, stays = (middle(samples, key) for key in ("seconds", "cpu", "peak", "after"))
        times = f"load {seconds:6.3f} s ({cpu:.3f} s of processor time)"
        print(f"  {name:9} {times}, peak {peak / 1e6:6.1f} MB, then {stays / 1e6:6.1f} MB")
    print(
        f"  packed    {median(longer):+.3f} s ({min(longer):+.3f} to {max(longer):+.3f}; bar +0.5), "
        f"{median(b['seconds'] / a['seconds'] for a, b in pairs):.2f} times as long"
    )
    print(
        f"  peak      {more / sizes[0]:+.2f} times the unpacked size above the unpacked folder's peak (bar +1.3); "
        f"{own / sizes[0]:.2f} times above what stays"
    )


def make_shapes(root: Path) -> list[Path]:
    """Exports of the OPT-125m shape with random weights: codes of 4 bits, and of 8 bits that code to about 3."""
    from dareq_edge.plan import QuantOptions
    from dareq_edge.quantize import quantize_checkpoint
    from dareq_edge.recipes import build
    from dareq_export import export_onnx
    from examples.benchmarks.bench_shapes import make_checkpoint

    make_checkpoint("opt-125m", root / "float")
    folders = []
    for bits, name in ((4, "rtn"), (8, "entquant")):
        options = QuantOptions(bits=bits, scale_dtype="bfloat16", table_bits=8, position_bits=8)
        quantize_checkpoint(root / "float", root / f"q{bits}", options, build(name))
        folders.append(root / f"opt-125m-{bits}-bit-codes")
        export_onnx(root / f"q{bits}", folders[-1])
    return folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="exported folders, in place of random weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compute", choices=("int8", "fp32"), default="int8")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dareq-packed-") as name:
        root = Path(name)
        for index, folder in enumerate(args.folders or make_shapes(root)):
            packed = root / f"packed-{index}"
            pack_folder(folder, packed)
            bench(folder, packed, args.rounds, args.compute)


if __name__ == "__main__":
    main()
