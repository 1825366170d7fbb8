"""Many inputs in forked children: what one of them does to the interpreter is found out, and costs a fork."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dareq_edge.errors import DareqError

MEMORY = 512 << 20
"""Bytes of address space that reading a tiny file may add."""
SECONDS = 30
"""Until an input counts as a hang; a tiny file takes milliseconds, also on a busy machine."""

REFUSED, ANSWERED, DEFECT = "refused", "answered", "defect"


@dataclass(frozen=True)
class Outcome:
    """What one input did.

    number: Which input. kind: one of REFUSED, ANSWERED, DEFECT. text: the sentence, the answer, or what went wrong.
    """

    number: int
    kind: str
    text: str


def outcomes(
    work: Callable[[int], str], numbers: Sequence[int], *, memory: int = MEMORY, seconds: int = SECONDS
) -> list[Outcome]:
    """Run ``work`` for every number, in children of limited memory and time that go on where one died.

    ``work`` returns an answer or raises; a DareqError of one printable line refuses, anything else is a defect.
    """
    found: list[Outcome] = []
    while len(found) < len(numbers):
        found += _in_a_child(work, numbers[len(found) :], memory, seconds)
    return found


def summary(found: Sequence[Outcome]) -> str:
    """Counts, for the report of a test run."""
    kinds = Counter(o.kind for o in found)
    return ", ".join(f"{kinds[kind]} {kind}" for kind in (REFUSED, ANSWERED, DEFECT)) + f" of {len(found)}"


def _in_a_child(work: Callable[[int], str], numbers: Sequence[int], memory: int, seconds: int) -> list[Outcome]:
    ours, theirs = os.pipe()
    sys.stdout.flush()  # or the child would print it again
    child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            _serve(work, numbers, theirs, memory, seconds)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, encoding="utf-8") as pipe:
        found = [Outcome(*json.loads(line)) for line in pipe]
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) or len(found) < len(numbers):
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        found.append(Outcome(numbers[len(found)], DEFECT, f"the interpreter died of {how}"))
    return found


def _serve(work: Callable[[int], str], numbers: Sequence[int], pipe: int, memory: int, seconds: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # death by signal 14 is a hang
    for number in numbers:
        signal.alarm(seconds)
        kind, text = _judged(work, number)
        signal.alarm(0)
        os.write(pipe, (json.dumps([number, kind, text[:400]]) + "\n").encode())


def _judged(work: Callable[[int], str], number: int) -> tuple[str, str]:
    try:
        return ANSWERED, work(number)
    except DareqError as error:
        text = str(error)
        clear = text and "\n" not in text and len(text) < 2000
        return (REFUSED, text) if clear else (DEFECT, f"no clear sentence: {text!r:.300}")
    except BaseException as error:  # panics of Rust are no Exceptions
        return DEFECT, f"{type(error).__module__}.{type(error).__name__}: {error}"
