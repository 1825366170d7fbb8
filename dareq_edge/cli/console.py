"""What the command line prints: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text

from dareq_edge.manifest import Manifest

if TYPE_CHECKING:
    from dareq_edge.progress import Progress as Callback

WIDE = 110
"""Columns of a table that is not printed on a terminal."""


def fail(sentence: str) -> None:
    """Print an error on stderr."""
    _stderr().print(Text.assemble(("error: ", "bold red"), (printable(sentence), "red")), soft_wrap=True)


def note(sentence: str) -> None:
    """Print a remark on stderr."""
    _stderr().print(Text(printable(sentence), "dim"), soft_wrap=True)


def printable(text: str) -> str:
    """A sentence as one line that commands no terminal: it may hold names out of a file that means harm."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def result(record: Mapping[str, object], shown: RenderableType, *, as_json: bool) -> None:
    """Print a command's result: the record as JSON, or what a person reads."""
    if as_json:
        print(json.dumps(record, ensure_ascii=False, indent=1))
    else:
        # Piped into a file there is no width to respect, and cut columns would be lost.
        Console(width=None if sys.stdout.isatty() else WIDE, markup=False, emoji=False).print(_Printable(shown))


def harmless(text: str) -> str:
    """Generated text without the characters that command a terminal; line ends and tabs stay."""
    return "".join(c if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") else "\ufffd" for c in text)


class _Printable:
    """What is shown, in which a name out of a file can neither command the terminal nor be taken for markup."""

    def __init__(self, shown: RenderableType) -> None:
        self._shown = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._shown, options):
            text = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in segment.text)
            yield Segment(text, segment.style, segment.control)


def plain(manifest: Manifest) -> dict[str, Any]:
    """A manifest as a plain dict."""
    return asdict(manifest) | {"scores": {label: r.to_json() for label, r in manifest.scores.items()}}


def written(manifest: Manifest, out: Path, *, as_json: bool) -> None:
    """Print what a command wrote."""
    size = sum(f.bytes for f in manifest.files.values())
    count = sum(t.method is not None for t in manifest.tensors.values())
    record = {"out": str(out), "bytes": size, "manifest": plain(manifest)}
    result(record, Text(f"{out}: {count} matrices quantized, {size / 1e6:,.2f} MB on disk"), as_json=as_json)


@contextmanager
def progress_bars() -> Iterator[Callback]:
    """A progress callback: one transient bar per stage, or one line per stage where there is no terminal."""
    console = _stderr()
    if not console.is_terminal:
        yield _Named()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Drawn(bars)


def quiet_libraries(threads: int | None = None) -> None:
    """Keep transformers' advice about its own options off the terminal, and PyTorch to ``threads`` threads."""
    import torch
    from transformers.utils import logging

    if threads is not None:
        torch.set_num_threads(threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


class _Drawn:
    """One bar per stage."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """See ``dareq_edge.progress.Progress``; a stage of one step is drawn as a pulse until it is done."""
        size = total if total > 1 or done >= total else None
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=size)
        self._bars.update(self._tasks[stage], completed=done, total=size)


class _Named:
    """One line per stage."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """See ``dareq_edge.progress.Progress``."""
        if stage not in self._seen:
            self._seen.add(stage)
            note(f"{stage} ...")


def _stderr() -> Console:
    return Console(stderr=True)
