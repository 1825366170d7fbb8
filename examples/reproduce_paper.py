"""The paper's tables on the embedded small OPT, offline; on the paper's own models where there is a network.

    python -m examples.reproduce_paper [--hub]

The same as `dareq-edge reproduce examples/models/opt-mini --here dareq:weights`, and `dareq-edge reproduce`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dareq_edge.cli import main

MINI = Path(__file__).parent / "models/opt-mini"

if __name__ == "__main__":
    wanted = ["--out", "out/reproduce"] if "--hub" in sys.argv else [str(MINI), "--here", "dareq:weights"]
    sys.exit(main(["reproduce", *wanted]))
