"""Quantizing in a fresh process, so that its peak memory is its own and a killed one is only a failed row."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import cast

import torch
from transformers.utils import logging

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.comparison.coded import coded_size
from dareq_edge.comparison.errors import weight_errors
from dareq_edge.comparison.floats import linear_modules, write_dequantized
from dareq_edge.comparison.records import Production
from dareq_edge.dequantized import Dequantizer
from dareq_edge.errors import DareqError
from dareq_edge.plan import QuantOptions
from dareq_edge.progress import Progress, silent
from dareq_edge.quantize import Planner, quantize_checkpoint
from dareq_edge.recipes import Recipe
from dareq_edge.spec import QuantSpec

_PAUSE = 0.1  # seconds between two progress messages of the same stage
_GRACE = 60.0  # seconds that a worker has to leave after its last message


class ProductionError(DareqError):
    """A recipe could not be run to its end; the message is the recipe's own sentence."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to quantize, how, and where to; it travels to the other process.

    Attributes:
        source: A local folder or a hub id.
        revision: Branch, tag or commit on the hub.
        out: Folder to create.
        options: Bits, groups, tables.
        method: A recipe, or a method that is only dequantized.
        storable: Which of the two.
        trust_remote_code: Let transformers run code that comes with the model.
        threads: Of PyTorch; ``None`` keeps its default.
        plan: In place of bits and groups in ``options``, or what makes it; of storable methods only.
    """

    source: str
    revision: str | None
    out: Path
    options: QuantOptions
    method: Recipe | Dequantizer
    storable: bool
    trust_remote_code: bool = False
    threads: int | None = None
    plan: Mapping[str, QuantSpec] | Planner | None = None


def produce(order: Order, progress: Progress = silent) -> Production:
    """Fill the order in a process of its own.

    Raises:
        ProductionError: The recipe refused, or its process died.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    worker = context.Process(target=_work, args=(order, there), daemon=True)
    worker.start()
    there.close()  # or the pipe would never end
    try:
        found = _listen(here, progress)
        worker.join(_GRACE)
    finally:
        if worker.is_alive():  # interrupted, or hanging after its work
            worker.terminate()
        worker.join()
        here.close()
    if isinstance(found, Production):
        return found
    raise ProductionError(found or _death(worker.exitcode))


def _listen(here: Connection, progress: Progress) -> Production | str | None:
    """What the worker has to say: a production, why it failed, or nothing because it died."""
    while True:
        try:
            kind, content = here.recv()
        except EOFError:
            return None
        if kind != "progress":
            return cast("Production | str", content)
        progress(*content)


def _death(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed, most likely because memory ran out; use fewer --samples or a larger machine"
    return f"its process ended with exit code {code} before it was done; see what it printed above"


def _work(order: Order, report: Connection) -> None:
    """The other process."""
    signal.signal(signal.SIGTERM, _leave)  # so that half-written folders are removed
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if order.threads is not None:
        torch.set_num_threads(order.threads)
    try:
        report.send(("done", _fill(order, _Sender(report))))
    except DareqError as error:
        report.send(("failed", str(error)))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        report.send(("failed", f"unexpected {type(error).__name__}: {error}"))
        raise  # multiprocessing prints where


def _fill(order: Order, progress: Progress) -> Production:
    made = (_stored if order.storable else _dequantized)(order, progress)
    trusted = order.trust_remote_code  # time and memory of the work are known by now
    original = Checkpoint.open(order.source, order.revision, trust_remote_code=trusted)
    errors = weight_errors(original, order.out, order.options, progress, trust_remote_code=trusted)
    return replace(made, errors=errors)


def _stored(order: Order, progress: Progress) -> Production:
    """A quantized checkpoint."""
    base, start = peak_resident(), time.perf_counter()
    checkpoint = Checkpoint.open(order.source, order.revision, trust_remote_code=order.trust_remote_code)
    manifest = quantize_checkpoint(
        order.source,
        order.out,
        order.options,
        cast("Recipe", order.method),
        plan=order.plan,
        revision=order.revision,
        overwrite=True,
        trust_remote_code=order.trust_remote_code,
        progress=progress,
    )
    model = checkpoint.empty_model(trust_remote_code=order.trust_remote_code)
    linears = linear_modules(model, order.options)
    entries = [manifest.tensors[f"{name}.weight"] for name in linears]
    size = sum(t.bytes for t in manifest.tensors.values() if t.shares is None)
    bits = 8 * sum(t.bytes for t in entries) / sum(t.shape[0] * t.shape[1] for t in entries)
    made = Production(time.perf_counter() - start, peak_resident(), base, size, bits)
    coded = coded_size(order.out, linears, progress)
    return replace(made, coded_bytes=coded[0], coded_bits_per_weight=coded[1])


def _dequantized(order: Order, progress: Progress) -> Production:
    """A float checkpoint whose matrices went through the method."""
    base, start = peak_resident(), time.perf_counter()
    checkpoint = Checkpoint.open(order.source, order.revision, trust_remote_code=order.trust_remote_code)
    size, bits = write_dequantized(
        checkpoint,
        order.out,
        order.options,
        cast("Dequantizer", order.method),
        trust_remote_code=order.trust_remote_code,
        progress=progress,
    )
    return Production(time.perf_counter() - start, peak_resident(), base, round(size), bits)


def peak_resident() -> int:
    """Most bytes this process has ever had resident.

    Linux: VmHWM, because ru_maxrss starts at the parent's size where the process was forked from a large one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class _Sender:
    """Progress through a pipe, not faster than anyone can look."""

    def __init__(self, report: Connection) -> None:
        self._report = report
        self._last = ("", 0.0)

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._last[0] or done >= total or now - self._last[1] > _PAUSE:
            self._last = (stage, now)
            self._report.send(("progress", (stage, done, total)))


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
