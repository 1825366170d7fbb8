"""Kits for the tests: written from any exported folder, run as a device would, and changed on purpose."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dareq_runtime.kit.writing import Job, Written, write_kit
from dareq_runtime.tokens import TokenSet
from dareq_runtime.windows import make_protocol

VALIDATE = Path(__file__).parents[1] / "runtime/dareq_runtime/kit/validate.py"

ISOLATED = """
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {*sys.stdlib_module_names, "numpy", "onnxruntime"}:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs a program in which nothing can be imported but the standard library, numpy and onnxruntime."""


def random_tokens(count: int, vocab: int = 96, seed: int = 0) -> TokenSet:
    """One text of random ids."""
    return TokenSet((np.random.default_rng(seed).integers(4, vocab, count),), "random")


def bundle(
    folder: Path, out: Path, tokens: TokenSet, protocol: str = "gptq", chunk: int = 16, **options: int
) -> Written:
    """A kit of an exported folder, read in small chunks, so that the cache grows."""
    return write_kit(folder, out, Job(tokens, make_protocol(protocol, **options), chunk, threads=1))


def run_validate(
    kit: Path, cwd: Path, *arguments: object, python: tuple[str, ...] = (sys.executable, "-I", "-c", ISOLATED)
) -> subprocess.CompletedProcess[str]:
    """Run a kit's validate.py elsewhere, with everything but its two packages out of reach."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [*python, str(kit / "validate.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def validate_module(place: Path) -> ModuleType:
    """validate.py as a module of its own, from a kit or from the sources."""
    spec = importlib.util.spec_from_file_location("validate_of_a_kit", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reseal(kit: Path, change: Callable[[dict[str, Any]], None] = lambda record: None) -> None:
    """Make a changed kit consistent again: kit.json is edited, every hash recomputed."""
    record = json.loads((kit / "kit.json").read_text())
    for name in record["files"]:
        content = (kit / name).read_bytes()
        record["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change(record)
    text = json.dumps(record).encode()
    (kit / "kit.json").write_bytes(text)
    (kit / "kit.sha256").write_text(f"{hashlib.sha256(text).hexdigest()}  kit.json\n")


def perturb(kit: Path, compute: str, nats: float) -> None:
    """A host whose losses were lower by so many nats: what a failing device looks like."""
    path = kit / f"reference/{compute}.nll.npy"
    np.save(path, np.load(path) - nats)
    reseal(kit)
