r"""Peak memory of the recipe dareq, tier self, on a generated 1.3 B-parameter OPT (2.6 GB of fp16 shards).

    python examples/benchmarks/bench_self_memory.py --blocks 1 --recipe dareq+samples=512+sample_length=128
    python examples/benchmarks/bench_self_memory.py \
        --recipe dareq+tuning=2+samples=4+feedback=false+descent=0+correction=false

The bar: 8 GB. The child process that quantizes is measured whole, imports included; Linux says its peak per stage.
All of it takes hours on two cores, so the first command ends after one quantized block (each needs the same; the text
has as many tokens as by default, in windows a quarter as long), and the second brings little text quickly to the
tuning of all blocks, whose need does not depend on the amount of text.
Everything is written to a temporary folder and removed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_quantize_memory import write_model

from dareq_edge.comparison.variants import parse_variant
from dareq_edge.errors import SpecError
from dareq_edge.recipes import build

BAR = 8e9

CHILD = """
import json, sys, time
from pathlib import Path
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.recipes import build
model, out, blocks = sys.argv[1], sys.argv[2], int(sys.argv[3])
name, settings, form = sys.argv[4], json.loads(sys.argv[5]), json.loads(sys.argv[6])
start, seen = time.perf_counter(), [""]

def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])

def tell(stage):
    if stage != seen[0]:
        seconds = time.perf_counter() - start
        print(f"{seen[0] or 'opening'}: peak {peak() / 1e6:.0f} MB, until {seconds:.0f} s", flush=True)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        seen[0] = stage

class Enough(Exception):
    pass

def progress(stage, done, total):
    tell(stage)
    if stage == "quantizing blocks" and done == blocks:
        raise Enough

try:
    options = QuantOptions(scale_dtype="bfloat16", **form)
    quantize_checkpoint(model, out, options, build(name, settings), progress=progress)
except Enough:
    pass
tell("end")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--blocks", type=int, default=-1, help="stop after so many; -1 goes on to the end")
    parser.add_argument("--recipe", default="dareq+tuning=2", help="as compare's --recipes, one of them")
    arguments = parser.parse_args()
    try:
        recipe = parse_variant(arguments.recipe, group_size=None, bits=4)
        made = build(recipe.name, recipe.values)
    except SpecError as error:
        parser.error(str(error))
    if getattr(made, "calibration", "") is None:
        parser.error(f"{recipe.name} needs calibration text, which a generated model has none of; use dareq")
    form = {"group_size": recipe.group_size, "bits": recipe.bits}
    with tempfile.TemporaryDirectory(prefix="dareq-memory-") as name:
        folder = Path(name)
        (folder / "model").mkdir()
        count = write_model(folder / "model", arguments.layers)
        print(f"parameters {count / 1e9:.2f} B, {recipe.label}", flush=True)
        command = [sys.executable, "-c", CHILD, str(folder / "model"), str(folder / "out")]
        command += [str(arguments.blocks), recipe.name, json.dumps(recipe.values), json.dumps(form)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            lines = []
            for line in child.stdout:
                print(line, end="", flush=True)
                lines.append(line)
        if child.returncode:
            print(f"the child left with {child.returncode}", file=sys.stderr)
            return 1
    worst = max(float(line.split("peak ")[1].split()[0]) for line in lines) * 1e6
    print(f"peak of all stages {worst / 1e6:.0f} MB, bar {BAR / 1e6:.0f} MB")
    return 0 if worst < BAR else 1


if __name__ == "__main__":
    sys.exit(main())
