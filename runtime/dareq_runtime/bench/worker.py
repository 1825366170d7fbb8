"""A fresh process that measures one thing: ``python -m dareq_runtime.bench.worker < JOB`` prints one JSON record.

JOB is {"measure": Job} or {"bandwidth": THREADS}; the record is {"sample": Sample}, {"bandwidth": BYTES_PER_SECOND},
or, with exit code 1, {"error": SENTENCE}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from dareq_edge.errors import DareqError
from dareq_runtime.bench.bandwidth import read_bandwidth
from dareq_runtime.bench.kinds import graph_file, make
from dareq_runtime.bench.measure import measure
from dareq_runtime.bench.sample import Job
from dareq_runtime.bench.weights import graph_weights

_PIECE = 1 << 20


def work(order: Mapping[str, Any]) -> dict[str, Any]:
    """Fill one order; a mistake of the user's comes back as a sentence."""
    try:
        if "bandwidth" in order:
            return {"bandwidth": read_bandwidth(int(order["bandwidth"]))}
        job = Job.from_json(order["measure"])
        warm(job)
        return {"sample": measure(make(job.kind, job.folder, job.threads), job.lengths).to_json()}
    except DareqError as error:
        return {"error": str(error)}


def warm(job: Job) -> None:
    """Bring the model's files into the page cache, in pieces that leave this process small."""
    buffer = bytearray(_PIECE)
    for path in graph_weights(graph_file(job.folder, job.kind)).files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def main() -> int:
    """Read the order from stdin, print the record on the real stdout whatever libraries print meanwhile."""
    out = os.dup(1)
    os.dup2(2, 1)
    record = work(json.load(sys.stdin))
    with os.fdopen(out, "w", encoding="utf-8") as stdout:
        json.dump(record, stdout)
    return int("error" in record)


if __name__ == "__main__":
    sys.exit(main())
