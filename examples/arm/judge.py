"""Judge a validation kit on emulated CPUs, one after the other: OUT/CPU.COMPUTE.json for each.

    dareq-edge bundle FOLDER --out kit --window 512 --max-tokens 2048
    python -m examples.arm.judge kit --out out/arm --int8-tokens 2044 --fp32-tokens 511
    python examples/benchmarks/device_table.py out/arm

What is already in OUT is kept. Minutes are the emulator's: they say nothing about an ARM machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from examples.arm.debian import UnavailableError
from examples.arm.emulate import ARM, HOST, X86, command
from examples.arm.environment import ensure


def judge(kit: Path, cpu: str, compute: str, tokens: int, out: Path) -> int:
    """Exit code of the kit's validate.py on a CPU with one thread; ``out`` is its result.json."""
    options = ["--compute", compute, "--tokens", str(tokens), "--threads", "1", "--out", str(out)]
    line, variables = command(cpu, [str(kit / "validate.py"), *options])
    began = time.monotonic()
    code = subprocess.run(line, env=variables, check=False, stdout=subprocess.DEVNULL).returncode
    print(f"{cpu} {compute}: exit code {code}, {(time.monotonic() - began) / 60:.1f} min", flush=True)
    return code


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kit", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cpu", action="append", help=f"default: {', '.join([HOST, *X86, *ARM])}")
    parser.add_argument("--int8-tokens", type=int, default=2000, help="0 leaves int8 compute out")
    parser.add_argument("--fp32-tokens", type=int, default=500, help="0 leaves fp32 compute out")
    given = parser.parse_args()
    try:
        ensure()
    except UnavailableError as error:
        parser.error(str(error))
    given.out.mkdir(parents=True, exist_ok=True)
    codes = [0]
    for compute, tokens in (("int8", given.int8_tokens), ("fp32", given.fp32_tokens)):
        for cpu in given.cpu or [HOST, *X86, *ARM]:
            out = given.out / f"{cpu}.{compute}.json"
            if tokens and not out.exists():
                codes.append(judge(given.kit, cpu, compute, tokens, out))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
