"""Run a Python script on an emulated CPU: qemu-user, no root, no chroot, no binfmt.

    python -m examples.arm.emulate --cpu cortex-a72 kit/validate.py --compute both --tokens 2000

``--cpu haswell`` runs this machine's own Python on an x86 without AVX-512, for the AVX2 kernels.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.arm.debian import UnavailableError
from examples.arm.environment import FOLDER, Wanted, ensure

ARM = {
    "cortex-a72": "no dot product",
    "cortex-a76": "dot product",
    "neoverse-v1": "dot product, int8 matrix product, bf16, SVE",
}
"""The CPUs of the table, and what of onnxruntime's kernels each can use."""

X86 = {"haswell": "Haswell-noTSX"}
"""x86 CPUs for this machine's own Python, by qemu's names: AVX2, no AVX-512, no AVX-VNNI."""

HOST = "host"
"""This machine itself, nothing emulated."""


def command(cpu: str, script: Sequence[str], folder: Path = FOLDER) -> tuple[list[str], dict[str, str]]:
    """Command line and environment variables that run a Python script with arguments on a CPU.

    Args:
        cpu: ``HOST``, a key of ``ARM`` or ``X86``, or any other CPU that qemu-aarch64 knows.
        script: The script and its arguments.
        folder: The environment (``environment.ensure``).
    """
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR")}
    variables = {**kept, "LC_ALL": "C.UTF-8", "PYTHONNOUSERSITE": "1"}
    if cpu == HOST:
        return [sys.executable, *script], variables
    if cpu in X86:
        return [str(folder / "bin/qemu-x86_64"), "-cpu", X86[cpu], sys.executable, *script], variables
    root = folder / "sysroot"
    python = root / f"usr/bin/python{Wanted.pinned().python}"
    variables |= {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(folder / "site")}
    return [str(folder / "bin/qemu-aarch64"), "-L", str(root), "-cpu", cpu, str(python), *script], variables


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", default="cortex-a76", help=f"one of {', '.join([*ARM, *X86])}")
    parser.add_argument("script", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    try:
        ensure()
    except UnavailableError as error:
        parser.error(str(error))
    line, variables = command(given.cpu, given.script)
    return subprocess.run(line, env=variables, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
