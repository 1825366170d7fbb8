"""Commands in forked children that are killed, or held, just before the n-th thing they do to the file system."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dareq_edge.cli import main
from packed_folders import content

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.", "shutil.", "tempfile.")
_READS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.putenv", "os.unsetenv", "os.kill", "os.fork")

Prepare = Callable[[], None]


@dataclass(frozen=True)
class Run:
    """A command's exit: its code (negative: the signal), what it said on stderr, events counted, seconds."""

    code: int
    said: str
    events: int
    seconds: float


class Child:
    """A command running in a fork of this process."""

    def __init__(self, arguments: Sequence[str], prepare: Sequence[Prepare] = ()) -> None:
        self._said, speech = os.pipe()
        self._ours, theirs = os.pipe()
        self._began = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(arguments, theirs, speech, prepare)
        os.close(theirs)
        os.close(speech)

    def _become(self, arguments: Sequence[str], count: int, speech: int, prepare: Sequence[Prepare]) -> None:
        events, code = Events(), 99
        try:
            os.dup2(speech, 2)  # a pipe: a file could not grow where the disk is full
            os.close(speech)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            for step in prepare:
                step()
            sys.addaudithook(events)
            code = main(list(arguments))
            sys.stderr.flush()
        except BaseException as error:
            os.write(2, f"Traceback: {error!r}".encode())
        finally:
            os.write(count, str(events.count).encode())
            os._exit(code)

    def wait(self) -> Run:
        """Until it ends."""
        with os.fdopen(self._said) as pipe:
            said = pipe.read()
        with os.fdopen(self._ours) as pipe:
            events = int(pipe.read() or -1)
        _, status = os.waitpid(self.pid, 0)
        seconds = time.monotonic() - self._began
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return Run(code, said, events, seconds)


class Events:
    """An audit hook that counts changes of the file system, each before it happens."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        self.count += _changes(event, arguments)


class At:
    """Does something just before the n-th change; a step for ``Child``."""

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        self._left, self._action = number, action

    def __call__(self) -> None:
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if _changes(event, arguments):
            self._left -= 1
            if self._left == 0:
                self._action()


def _changes(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        path, mode, flags = arguments
        writes = any(c in mode for c in "wax+") if isinstance(mode, str) else bool(flags & _WRITING)
        return isinstance(path, str | os.PathLike) and writes and os.fspath(path) != os.devnull
    return event.startswith(_CHANGES) and event not in _READS


def die() -> None:
    """As kill -9 does it."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(arguments: Sequence[str], number: int, prepare: Sequence[Prepare] = ()) -> Run:
    """Run a command until just before its n-th change of the file system."""
    return Child(arguments, [*prepare, At(number, die)]).wait()


def killed_after(arguments: Sequence[str], seconds: float, prepare: Sequence[Prepare] = ()) -> Run:
    """Run a command for so long."""
    child = Child(arguments, prepare)
    time.sleep(seconds)
    os.kill(child.pid, signal.SIGKILL)
    return child.wait()


def visible(place: Path) -> dict[str, Mapping[str, bytes]]:
    """Everything in a folder that is not hidden, by name."""
    found = [p for p in place.iterdir() if not p.name.startswith(".")]
    return {p.name: content(p) if p.is_dir() else {"": p.read_bytes()} for p in found}
