"""Starts a worker and reads its record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dareq_edge
import dareq_runtime
from dareq_edge.errors import DareqError
from dareq_runtime.bench.sample import Job, Sample

WORKER = "dareq_runtime.bench.worker"


class BenchError(DareqError):
    """A contestant could not be measured; the message names it and says why."""


def run_job(job: Job) -> Sample:
    """Measure one contestant once, in a process of its own.

    Raises:
        BenchError: It failed.
    """
    return Sample.from_json(_ask({"measure": job.to_json()}, job.label)["sample"])


def run_bandwidth(threads: int) -> float:
    """Memory read bandwidth, bytes per second, measured in a process of its own.

    Raises:
        BenchError: It failed.
    """
    return float(_ask({"bandwidth": threads}, "memory bandwidth")["bandwidth"])


def _ask(order: Mapping[str, Any], who: str) -> dict[str, Any]:
    command = [sys.executable, "-m", WORKER]
    done = subprocess.run(
        command, input=json.dumps(order), capture_output=True, text=True, check=False, env=environment()
    )
    try:
        record: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise BenchError(f"{who}: {_death(done)}") from None
    if "error" in record:
        raise BenchError(f"{who}: {record['error']}")
    return record


def environment() -> dict[str, str]:
    """This process's environment, with the packages in use first on the path of another interpreter."""
    roots = [str(Path(str(package.__file__)).parents[1]) for package in (dareq_runtime, dareq_edge)]
    known = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*dict.fromkeys(roots), *([known] if known else [])])}


def _death(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == -getattr(signal, "SIGKILL", 9):
        return "its process was killed, most likely because memory ran out; use shorter --prompts and --contexts"
    lines = done.stderr.strip().splitlines()
    return (
        f"its process ended with exit code {done.returncode} ({lines[-1][:240] if lines else 'it printed nothing'})"
    )
