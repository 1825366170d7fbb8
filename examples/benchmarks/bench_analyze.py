"""Time and peak memory of `dareq-edge analyze` on a generated 1.3 B-parameter OPT (2.6 GB of fp16 shards).

    python -m examples.benchmarks.bench_analyze [--layers N] [--repeat N]

The bars: under 60 s and 1 GB for `analyze`, under 2 s for `analyze --fast`. Every command runs in a process of its
own, which is measured whole (wall clock; ru_maxrss), imports included. Shards are random, in a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MB = 1e6
BARS = {"analyze": (60.0, 1000 * MB), "analyze --fast": (2.0, 1000 * MB)}


WRITER = """
import sys
from pathlib import Path
from examples.benchmarks.bench_quantize_memory import write_model
print(write_model(Path(sys.argv[1]), int(sys.argv[2])))
"""


def write_model(folder: Path, layers: int) -> int:
    """Write the shards; gives the number of parameters.

    In a process of its own: a process counts as its peak what its parent held when it was started.
    """
    command = [sys.executable, "-c", WRITER, str(folder), str(layers)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def run(folder: Path, *options: str) -> tuple[float, float]:
    """Seconds and peak bytes of one command.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    start = time.perf_counter()
    command = [sys.executable, "-m", "dareq_edge", "analyze", str(folder), *options, "--json"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return time.perf_counter() - start, usage.ru_maxrss * 1024.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory(prefix="dareq-analyze-") as name:
        folder = Path(name)
        need = 3e9 * arguments.layers / 24 + 5e8
        if shutil.disk_usage(folder).free < need:
            print(f"needs {need / 1e9:.1f} GB free in {folder}; set TMPDIR to a larger disk", file=sys.stderr)
            return 1
        count = write_model(folder, arguments.layers)
        print(f"parameters {count / 1e9:.2f} B, {arguments.layers} blocks")
        for label, (seconds, peak) in BARS.items():
            found = [run(folder, *label.split()[1:]) for _ in range(arguments.repeat)]
            times, peaks = zip(*found, strict=True)
            shown = ", ".join(f"{t:.2f}" for t in times)
            print(f"{label}: {shown} s (bar {seconds:g}); peak {max(peaks) / MB:.0f} MB (bar {peak / MB:.0f})")
            missed |= max(times) >= seconds or max(peaks) >= peak
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
