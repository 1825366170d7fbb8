"""The wheel as users get it: built from a copy of the sources, installed into empty virtual environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "dareq_edge", "export", "runtime")
UNREACHABLE = (
    "NewConnectionError",
    "ConnectTimeoutError",
    "Max retries exceeded",
    "No matching distribution found",
    "No route to host",
    "Temporary failure in name resolution",
)
"""What pip says when a package cannot be had."""


class UnavailableError(Exception):
    """A package cannot be had here; the message is the last line of what pip said."""


def build_wheel(folder: Path) -> Path:
    """Build the wheel in a copy, so that no build folder is left in the checkout.

    Raises:
        UnavailableError: The build's own packages cannot be had.
    """
    source = folder / "source"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "node_modules", "*.egg-info", "vendor")
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        else:
            source.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", folder / "dist", source)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment.

    Attributes:
        python: Its interpreter.
        cwd: A folder outside of the checkout, in which everything runs.
    """

    python: Path
    cwd: Path

    @classmethod
    def make(cls, folder: Path, wheel: Path, extra: str | None) -> Environment:
        """An empty environment with the wheel in it; wheels are downloaded once, into pip's cache.

        Raises:
            UnavailableError: A package cannot be had.
        """
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        made = cls(folder / "venv/bin/python", folder)
        what = f"{wheel}[{extra}]" if extra else str(wheel)
        pip(made.python, "install", "--prefer-binary", what, "-c", ROOT / "constraints.txt")
        return made

    def run(self, *arguments: object, check: bool = True) -> str:
        """Standard output of this Python, which sees nothing of the checkout."""
        hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
        environment = {k: v for k, v in os.environ.items() if k not in hidden} | {"HF_HUB_OFFLINE": "1"}
        command = [str(self.python), "-I", *(str(a) for a in arguments)]
        done = subprocess.run(command, cwd=self.cwd, env=environment, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done.stdout if check else done.stdout + done.stderr

    def command(self, *arguments: object, check: bool = True) -> str:
        """Standard output of ``dareq-edge``, as pip installed it."""
        return self.run(self.python.parent / "dareq-edge", *arguments, check=check)

    def packages(self) -> set[str]:
        """Names of what is installed."""
        lines = self.run("-m", "pip", "list", "--format=freeze").split()
        return {line.partition("==")[0].lower().replace("_", "-") for line in lines}


def pip(python: Path, *arguments: object) -> None:
    """Run pip.

    Raises:
        UnavailableError: Something cannot be downloaded.
    """
    command = [str(python), "-m", "pip", *(str(a) for a in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and any(sign in done.stderr + done.stdout for sign in UNREACHABLE):
        raise UnavailableError(done.stderr.strip().splitlines()[-1][:300])
    assert done.returncode == 0, done.stderr[-3000:]
