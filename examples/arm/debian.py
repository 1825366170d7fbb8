"""Debian packages of another release or architecture, unpacked into a folder; nothing of the system is touched.

apt runs with a configuration, a package list and a status of its own, so it needs no root and installs nothing. The
mirror is the one this machine's own sources name.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dareq_edge.errors import DareqError

TIMEOUT_S = 600
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_CARRIED = re.compile(r"Acquire::(https?::|ftp::|Retries|Check-|Max-Future)")
"""How this machine reaches its mirror (proxies, retries, whether dates count)."""


class UnavailableError(DareqError):
    """What the emulation needs cannot be had on this machine; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Apt:
    """apt with a private state.

    Attributes:
        home: Folder of its configuration, lists and downloads.
        suite: Debian release, e.g. "trixie".
        architectures: Debian names, the native one first, e.g. ("arm64", "amd64").
    """

    home: Path
    suite: str
    architectures: tuple[str, ...]

    def download(self, packages: Sequence[str]) -> list[Path]:
        """Download packages ("name" or "name:arch") and what they depend on, checked against the signed lists.

        Raises:
            UnavailableError: apt failed, or there is no Debian mirror to ask.
        """
        self._prepare()
        self._apt("apt-get", "-q", "update", "--error-on=any")
        self._apt("apt-get", "-qq", "-y", "--no-install-recommends", "--download-only", "install", *packages)
        return sorted((self.home / "cache/archives").glob("*.deb"))

    def _prepare(self) -> None:
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        (self.home / "status").write_text("")
        signed = f" [signed-by={_KEYS}]" if _KEYS.is_file() else ""
        (self.home / "sources.list").write_text(f"deb{signed} {debian_mirror()} {self.suite} main\n")
        dumped = run(["apt-config", "dump"]).splitlines()
        own = {
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::sourcelist": self.home / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": self.home / "state",
            "Dir::State::status": self.home / "status",
            "Dir::Cache": self.home / "cache",
            "Dir::Log": self.home,
            "APT::Architecture": self.architectures[0],
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "1",
        }
        lines = [line for line in dumped if _CARRIED.match(line)]
        lines += [f'{key} "{value}";' for key, value in own.items()]
        lines += [f'APT::Architectures:: "{name}";' for name in self.architectures]
        (self.home / "apt.conf").write_text("\n".join(lines) + "\n")

    def _apt(self, *command: str) -> str:
        return run(command, {"APT_CONFIG": str(self.home / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"})


def debian_mirror() -> str:
    """Address of the Debian archive among this machine's apt sources.

    Raises:
        UnavailableError: There is none.
    """
    form = ["--format", "$(REPO_URI)", "Created-By: Packages"]
    found = run(["apt-get", "indextargets", *form]).split()
    archives = [uri for uri in found if Path(urlsplit(uri).path).name == "debian"]
    if not archives:
        raise UnavailableError("this machine's apt has no source of the Debian archive; add one to its sources")
    return archives[0]


def host_architecture() -> str:
    """Debian's name of this machine's architecture, e.g. "amd64"."""
    return run(["dpkg", "--print-architecture"]).strip()


def unpack(package: Path, folder: Path, members: Sequence[str] = ()) -> None:
    """Unpack a package, or only some of its files (paths as in the package, without the leading "./")."""
    folder.mkdir(parents=True, exist_ok=True)
    if not members:
        run(["dpkg-deb", "-x", str(package), str(folder)])
        return
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as archive:
        names = [f"./{m}" for m in members]
        done = subprocess.run(["tar", "-x", "-C", str(folder), *names], stdin=archive.stdout, check=False)
    if done.returncode:
        raise UnavailableError(f"{package.name} has no {' '.join(members)}")


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a command.

    Raises:
        UnavailableError: It does not exist, fails, or takes too long; with its first error line.
    """
    if shutil.which(command[0]) is None:
        raise UnavailableError(f"{command[0]} is not installed; this needs a Debian machine with pip")
    name = " ".join(Path(part).name if part.startswith("/") else part for part in command[:3])
    variables = {**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=variables)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{name} took more than {TIMEOUT_S} s; try again") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.lower().startswith(("e:", "error"))]
        last = (said or done.stderr.strip().splitlines() or ["no message"])[0]
        raise UnavailableError(f"{name} failed ({last[:300]}); is the package registry reachable?")
    return done.stdout
