"""Most memory of a process that runs an exported model, against what allocation/memory.py allows for.

    python -m examples.benchmarks.bench_memory FOLDER [FOLDER ...] [--tokens 16,256,1024]

FOLDER is what `dareq-edge export` wrote. Every line is a process of its own, interpreter and libraries included
(VmHWM of Linux): load, a prompt of random tokens, 16 generated tokens.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

CHILD = """
import json, sys
import numpy as np
import dareq_runtime
from dareq_edge.manifest import Manifest

folder, count = sys.argv[1], int(sys.argv[2])
model = dareq_runtime.load(folder, threads=2)
count = min(count, model.context_length) - 16
ids = np.random.default_rng(0).integers(4, 200, max(1, count)).tolist()
model.generate(ids, max_new_tokens=16, stop_ids=[])
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak": 1024 * peak}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--tokens", default="16,256,1024")
    arguments = parser.parse_args()

    from dareq_edge.allocation.memory import PER_FILE_BYTE, PROCESS_BYTES, cache_bytes
    from dareq_edge.checkpoint import read_config
    from dareq_edge.manifest import Manifest

    exceeded = False
    print(f"{'folder':30} {'tokens':>6} {'file MB':>8} {'peak MB':>8} {'allowed for':>11}")
    for folder in arguments.folders:
        size, config = Manifest.read(folder).graph_bytes, read_config(folder, trust_remote_code=False)
        for tokens in map(int, arguments.tokens.split(",")):
            command = [sys.executable, "-c", CHILD, str(folder), str(tokens)]
            peak = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)["peak"]
            allowed = PROCESS_BYTES + PER_FILE_BYTE * size + cache_bytes(config, tokens)
            exceeded |= peak > allowed
            print(f"{folder.name:30} {tokens:6} {size / 1e6:8.1f} {peak / 1e6:8.1f} {allowed / 1e6:11.1f}")
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
