"""How long-running functions report progress: a callback, so that only the command line draws bars."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; ``stage`` is a short present participle, e.g. "quantizing"."""


def silent(stage: str, done: int, total: int) -> None:
    """The default callback: report nothing."""
