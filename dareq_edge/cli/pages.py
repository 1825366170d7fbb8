"""--report: where the page goes, what command it is about, and writing it whole or not at all."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.errors import SpecError

if TYPE_CHECKING:
    import typer

    from dareq_edge.reporting.records import Report


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was asked for.

    Attributes:
        path: Its file; one that is there is replaced.
        command: The command line, with every option that was given.
        settings: Every option and its value.
    """

    path: Path
    command: str
    settings: Mapping[str, str]

    def write(self, report: Report) -> None:
        """Render and write the page.

        Raises:
            ArtifactError: The disk is full.
        """
        from dareq_edge.folders import new_file
        from dareq_edge.reporting.page import render

        text = render(report)
        with new_file(self.path, overwrite=True) as scratch:
            scratch.write_text(text, encoding="utf-8")


def page_of(context: typer.Context) -> Page | None:
    """What a command's --report asks for, refused before any work if it could not be written after it.

    Raises:
        SpecError: The file's name or folder cannot work.
    """
    path = context.params["report"]
    if path is None:
        return None
    out = context.params.get("out")
    _check(Path(path), None if out is None else Path(out))
    settings = {p.name: str(context.params[p.name]) for p in context.command.params if p.name in context.params}
    return Page(Path(path), command_line(context), settings)


def _check(path: Path, out: Path | None) -> None:
    if path.suffix not in (".html", ".htm"):
        raise SpecError(f"--report is {path}; name it .html")
    if path.is_dir():
        raise SpecError(f"--report {path} is a folder; name a file")
    if out is not None and Path(os.path.abspath(out)) in Path(os.path.abspath(path)).parents:
        raise SpecError(f"--report {path} lies in the folder of --out, which holds the model alone; put it elsewhere")
    if not path.parent.is_dir():
        raise SpecError(f"there is no folder {path.parent} for --report {path.name}; create it first")
    if not os.access(path.parent, os.W_OK):
        raise SpecError(f"the folder {path.parent} of --report {path.name} cannot be written; choose another")


def command_line(context: typer.Context) -> str:
    """What to type to run the command again: its arguments, and every option that was given."""
    return shlex.join([*context.command_path.split(), *_words(context)])


def _words(context: typer.Context) -> Iterator[str]:
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE" or parameter.name not in context.params:
            continue
        value = context.params[parameter.name]
        if parameter.param_type_name == "argument":
            yield str(value)
        elif isinstance(value, bool):
            yield _longest(parameter.opts if value else parameter.secondary_opts)
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                yield from (_longest(parameter.opts), str(one))


def _longest(names: Sequence[str]) -> str:
    return max(names, key=len)
