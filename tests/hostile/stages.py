"""Commands on tiny models, run undisturbed and disturbed in the same place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from hostile.kills import Child, Prepare, Run, visible

QUICK = ("--recipe", "rtn")
COMMANDS: dict[str, tuple[str, ...]] = {
    "quantize": ("quantize", "m", *QUICK),
    "export": ("export", "q"),
    "deploy": ("deploy", "m", "--tokens", "t.npy", *QUICK),
    "pack": ("pack", "o"),
    "unpack": ("unpack", "p"),
    "bundle": ("bundle", "o", "--tokens", "t.npy"),
    "zip": ("bundle", "o", "--tokens", "t.npy"),
}
TARGETS = {"zip": "out.zip"}
NEEDS: dict[str, tuple[str, ...]] = dict.fromkeys(COMMANDS, ())
NEEDS |= {"quantize": ("sources",), "export": ("sources", "captured"), "deploy": ("sources", "captured")}
"""Fixtures beyond the exported folder; those of a fast test need no capture."""


class Stage:
    """One command, its undisturbed result, and a place for disturbed ones."""

    def __init__(self, name: str, sources: Path, place: Path, prepare: list[Prepare]) -> None:
        self.name, self.place, self.prepare = TARGETS.get(name, "out"), place, prepare
        words = [str(sources / w) if (sources / w).exists() else w for w in COMMANDS[name]]
        self.command = [*words, "--out", str(place / self.name)]
        self.whole = self.again()
        self.made: Mapping[str, bytes] = visible(place)[self.name]
        self.clear()

    def again(self, *more: str) -> Run:
        """Run it undisturbed, which must succeed and leave nothing but its result."""
        found = Child([*self.command, *more], self.prepare).wait()
        assert found.code == 0, found.said
        assert [p.name for p in self.place.iterdir()] == [self.name]
        return found

    def clear(self) -> None:
        shutil.rmtree(self.place)
        self.place.mkdir()

    def old(self) -> dict[str, Mapping[str, bytes]]:
        """Put another folder, or file, where the result will be."""
        path = self.place / self.name
        if path.suffix:
            path.write_bytes(b"old")
        else:
            path.mkdir()
            (path / "dareq.json").write_bytes(b"old")
        return visible(self.place)
