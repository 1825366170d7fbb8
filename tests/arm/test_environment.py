"""The fetched folder appears whole or not at all; nothing is downloaded here."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from examples.arm import debian, environment
from examples.arm.debian import Apt, UnavailableError, debian_mirror, run
from examples.arm.emulate import HOST, command
from examples.arm.environment import Wanted, ensure

WANTED = Wanted(("numpy==1.0",))


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was fetched, instead of fetching it."""
    seen: list[str] = []

    def fetch_debian(home: Path, made: Path, wanted: Wanted) -> list[str]:
        seen.append(wanted.suite)
        (made / "sysroot").mkdir(parents=True)
        return ["python_1"]

    def fetch_wheels(site: Path, wanted: Wanted) -> None:
        if wanted.wheels == ("broken",):
            raise UnavailableError("no such wheel")
        site.mkdir()
        (site / "pins").write_text(" ".join(wanted.wheels))

    monkeypatch.setattr(environment, "_fetch_debian", fetch_debian)
    monkeypatch.setattr(environment, "_fetch_wheels", fetch_wheels)
    return seen


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Put shell scripts first on the path, named with "-" for "_"."""
    folder.mkdir()
    for name, body in scripts.items():
        place = folder / name.replace("_", "-")
        place.write_text(f"#!/bin/sh\n{body}\n")
        place.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_made_once_and_made_anew_when_the_pins_change(tmp_path: Path, fetches: list[str]) -> None:
    folder = tmp_path / "build/arm64"
    (folder.parent / "arm64.killed.partial/made").mkdir(parents=True)
    assert ensure(folder, WANTED) == folder
    assert ensure(folder, WANTED) == folder
    assert fetches == ["trixie"]
    ensure(folder, Wanted(("numpy==2.0",)))
    assert fetches == ["trixie", "trixie"]
    assert (folder / "site/pins").read_text() == "numpy==2.0"
    assert json.loads((folder / "made.json").read_text())["packages"] == ["python_1"]
    assert sorted(path.name for path in folder.parent.iterdir()) == ["arm64", "arm64.lock"]


def test_a_failed_fetch_leaves_what_was_there(tmp_path: Path, fetches: list[str]) -> None:
    folder = tmp_path / "arm64"
    with pytest.raises(UnavailableError, match="no such wheel"):
        ensure(folder, Wanted(("broken",)))
    assert [path.name for path in tmp_path.iterdir()] == ["arm64.lock"]
    ensure(folder, WANTED)
    with pytest.raises(UnavailableError):
        ensure(folder, Wanted(("broken",)))
    assert (folder / "site/pins").read_text() == "numpy==1.0"
    assert len(fetches) == 3


def test_the_pins_are_the_projects() -> None:
    pins = Wanted.pinned().wheels
    assert sorted(pin.split("==")[0] for pin in pins) == ["numpy", "onnxruntime"]


def test_the_mirror_is_the_machines_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "echo http://mirror.invalid/debian-security/; echo http://mirror.invalid/debian/"
    programs(tmp_path / "bin", monkeypatch, apt_get=told)
    assert debian_mirror() == "http://mirror.invalid/debian/"


def test_a_machine_without_a_debian_source_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path / "bin", monkeypatch, apt_get="echo http://mirror.invalid/ubuntu/")
    with pytest.raises(UnavailableError, match="no source of the Debian archive"):
        debian_mirror()


def test_apt_is_given_a_state_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = 'case "$1" in indextargets) echo http://mirror.invalid/debian/;; *) cat "$APT_CONFIG" >> "$LOG";; esac'
    dump = "echo 'Acquire::http::Proxy \"http://proxy.invalid\";'; echo 'Acquire::Languages:: \"en\";'"
    programs(tmp_path / "bin", monkeypatch, apt_get=told, apt_config=dump)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    home = tmp_path / "apt"
    assert Apt(home, "trixie", ("arm64", "amd64")).download(["python3.13-minimal"]) == []
    read = (tmp_path / "log").read_text()
    assert f'Dir::State "{home / "state"}";' in read
    assert f'Dir::Cache "{home / "cache"}";' in read
    assert 'Dir::Etc::parts "/dev/null";' in read
    assert 'APT::Architecture "arm64";' in read
    assert 'Acquire::http::Proxy "http://proxy.invalid";' in read
    assert "Acquire::Languages::" not in read
    assert "http://mirror.invalid/debian/ trixie main" in (home / "sources.list").read_text()


def test_a_failing_command_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs(tmp_path / "bin", monkeypatch, apt_get="echo W: careful >&2; echo E: no such package >&2; exit 100")
    with pytest.raises(UnavailableError, match=r"apt-get -q update failed \(E: no such package\)"):
        run(["apt-get", "-q", "update"])
    with pytest.raises(UnavailableError, match="apt-gone is not installed"):
        run(["apt-gone"])
    monkeypatch.setattr(debian, "TIMEOUT_S", 0.1)
    with pytest.raises(UnavailableError, match="took more than"):
        run(["sleep", "5"])


def test_commands_of_host_and_emulated_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    line, variables = command(HOST, ["x.py"], tmp_path)
    assert (line, "PYTHONPATH" in variables) == ([sys.executable, "x.py"], False)
    line, variables = command("cortex-a72", ["x.py", "--threads", "1"], tmp_path)
    assert line[:5] == [f"{tmp_path}/bin/qemu-aarch64", "-L", f"{tmp_path}/sysroot", "-cpu", "cortex-a72"]
    assert line[5:] == [f"{tmp_path}/sysroot/usr/bin/python3.13", "x.py", "--threads", "1"]
    assert variables["PYTHONPATH"] == f"{tmp_path}/site"
    assert variables["PYTHONHOME"] == f"{tmp_path}/sysroot/usr"
    line, _ = command("haswell", ["x.py"], tmp_path)
    assert line == [f"{tmp_path}/bin/qemu-x86_64", "-cpu", "Haswell-noTSX", sys.executable, "x.py"]
