"""Time and peak memory of export_onnx, whole process, from a quantized checkpoint with random weights.

    python examples/benchmarks/bench_export.py opt-125m        # bar: 40 s and 1.5 GB
    python examples/benchmarks/bench_export.py opt-1.3b        # never holds the model: about as much memory
    python examples/benchmarks/bench_export.py --checkpoint DIR

The child process that exports is measured whole (VmHWM, so Linux only), imports included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_quantize_memory import write_model
from bench_shapes import make_checkpoint

from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint

CHILD = """
import sys, time
from dareq_export import export_onnx
def peak():
    return next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
imports = peak()
start = time.perf_counter()
manifest = export_onnx(sys.argv[1], sys.argv[2])
seconds = time.perf_counter() - start
print(imports, peak(), seconds, sum(f.bytes for n, f in manifest.files.items() if n.startswith("model.onnx")))
"""


def quantized(shape: str, root: Path, position_bits: int) -> Path:
    """A random checkpoint of this shape, 4 bits per channel, 4-bit table."""
    (root / "float").mkdir()
    if shape == "opt-1.3b":
        write_model(root / "float", 24)
    else:
        make_checkpoint(shape, root / "float")
    options = QuantOptions(table_bits=4, position_bits=position_bits, scale_dtype="bfloat16", method="rtn")
    quantize_checkpoint(root / "float", root / "quantized", options)
    return root / "quantized"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", nargs="?", choices=["opt-125m", "opt-350m", "opt-1.3b"], default="opt-125m")
    parser.add_argument("--position-bits", type=int, choices=(4, 8), default=8)
    parser.add_argument("--checkpoint", type=Path, help="a quantized checkpoint, in place of random weights")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dareq-export-") as name:
        root = Path(name)
        source = args.checkpoint or quantized(args.shape, root, args.position_bits)
        command = [sys.executable, "-c", CHILD, str(source), str(root / "onnx")]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode:
            sys.exit(f"the export failed:\n{child.stderr}")
    imports, peak, seconds, size = (float(x) for x in child.stdout.split())
    label = args.checkpoint or args.shape
    print(f"{label}: model.onnx and its data {size / 1e6:.2f} MB, exported in {seconds:.1f} s")
    print(f"peak {peak / 1e6:,.0f} MB (imports alone {imports / 1e6:,.0f} MB)")


if __name__ == "__main__":
    main()
