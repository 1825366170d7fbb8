"""An aarch64 Python with numpy and onnxruntime, and a qemu that runs it: one folder, fetched by package name.

    build/arm64/sysroot/   Debian arm64: CPython, its libraries, libc, libstdc++
    build/arm64/site/      PyPI wheels for aarch64: numpy, onnxruntime and what they import
    build/arm64/bin/       qemu-aarch64 and qemu-x86_64 for this machine, statically linked
    build/arm64/made.json  what was asked for, and the packages that came

The folder appears whole or not at all, and is made again when what is asked for changes. Processes that want it at
the same time wait for the first one.

    python -m examples.arm.environment
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from examples.arm.debian import Apt, UnavailableError, host_architecture, run, unpack

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/arm64"
EMULATORS = ("qemu-aarch64", "qemu-x86_64")
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the environment is made of; a change makes it anew.

    Attributes:
        wheels: Pinned requirements, e.g. "numpy==2.4.6".
        suite: Debian release. Its qemu must be 10 or newer: 7.2 crashes in onnxruntime 1.28 and newer.
        python: Version of that release's CPython.
        emulator: Debian package of the emulator, taken for this machine's architecture.
        layout: Raised when the layout of the folder changes.
    """

    wheels: tuple[str, ...]
    suite: str = "trixie"
    python: str = "3.13"
    emulator: str = "qemu-user"
    layout: int = 1

    @classmethod
    def pinned(cls, constraints: Path = ROOT / "constraints.txt") -> Self:
        """With numpy and onnxruntime in the versions the project is tested with."""
        lines = [line.strip() for line in constraints.read_text().splitlines()]
        return cls(tuple(line for line in lines if line.split("==")[0] in ("numpy", "onnxruntime")))

    def packages(self) -> tuple[str, ...]:
        """Debian packages of the emulated system; what they depend on comes with them."""
        return (f"python{self.python}-minimal", f"libpython{self.python}-stdlib", "libstdc++6")


def ensure(folder: Path = FOLDER, wanted: Wanted | None = None) -> Path:
    """The environment's folder, fetched if it is not there or was made of something else.

    Raises:
        UnavailableError: A package cannot be had.
    """
    wanted = wanted or Wanted.pinned()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if _asked(folder) != json.loads(json.dumps(asdict(wanted))):
            _make(folder, wanted)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from making the folder meanwhile; the lock ends with the process, however it ends."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path, wanted: Wanted) -> None:
    for left in folder.parent.glob(f"{folder.name}.*.partial"):  # by a process that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", suffix=".partial", dir=folder.parent) as work:
        made = Path(work) / "made"
        found = _fetch_debian(Path(work) / "apt", made, wanted)
        _fetch_wheels(made / "site", wanted)
        record = {"asked": asdict(wanted), "packages": found}
        (made / "made.json").write_text(json.dumps(record, indent=1) + "\n")
        if folder.exists():
            os.replace(folder, Path(work) / "old")
        os.replace(made, folder)


def _asked(folder: Path) -> object:
    try:
        return json.loads((folder / "made.json").read_text())["asked"]
    except (OSError, ValueError, KeyError):
        return None


def _fetch_debian(home: Path, made: Path, wanted: Wanted) -> list[str]:
    """The emulated system and the emulator; the names of all packages, with versions."""
    host = host_architecture()
    apt = Apt(home, wanted.suite, tuple(dict.fromkeys(("arm64", host))))
    fetched = apt.download([*wanted.packages(), f"{wanted.emulator}:{host}"])
    for package in fetched:
        if package.name.startswith(f"{wanted.emulator}_"):
            unpack(package, made / "emulator", [f"usr/bin/{name}" for name in EMULATORS])
        else:
            unpack(package, made / "sysroot")
    # Merged /usr: packages ship files in usr/lib only, programs ask for /lib/ld-linux-aarch64.so.1.
    (made / "sysroot/lib").symlink_to("usr/lib")
    os.replace(made / "emulator/usr/bin", made / "bin")
    shutil.rmtree(made / "emulator")
    return [package.stem for package in fetched]


def _fetch_wheels(site: Path, wanted: Wanted) -> None:
    """numpy, onnxruntime and their dependencies, as aarch64 wheels."""
    platforms = [part for name in _PLATFORMS for part in ("--platform", name)]
    target = ["--target", str(site), "--only-binary=:all:", "--implementation", "cp", *platforms]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile"]
    run([sys.executable, "-m", "pip", "install", *quiet, *target, "--python-version", wanted.python, *wanted.wheels])


if __name__ == "__main__":
    try:
        print(ensure())
    except UnavailableError as error:
        sys.exit(str(error))
