"""The budgeted plan of `--max-size` against rules of allocation, at the same bytes of the exported model.

    python -m examples.benchmarks.bench_max_size MODEL --text FILE [--text FILE ...] --out DIR [--plot FILE]
        [--rates 4.5,5,6] [--recipe dareq:analytic] [--max-tokens N]

A rate is bits per weight of the linear layers in the exported file, scales included; tables have 8 bits in every row
but the budgeted one, which may choose for them too. What a rule may spend is the size of the graph, of the tables and
of the layers at that rate; it gives as many blocks 8 bits as fit, the others 4 bits, in groups of 64 (uniform: the
smallest groups that fit). No row is larger than what it is compared at; the end says how large it is. DIR keeps
finished rows.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from examples.benchmarks.allocation_rows import add_options, compare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from dareq_edge.cli.subjects import Subject
    from dareq_edge.plan import QuantOptions
    from dareq_edge.quantize import Planner
    from dareq_edge.spec import QuantSpec

    Plan = Mapping[str, QuantSpec] | Planner

GROUP = 64
LINES = 128  # bytes that aligning a matrix's codes and scales may take


def rule_plans(
    model: nn.Module, options: QuantOptions, blocks: int, budget: int
) -> dict[str, tuple[Plan, int | None]]:
    """The largest plan of every rule that fits, and its group size."""
    from dareq_edge.allocation.planners import ByRule
    from dareq_edge.allocation.rules import parse
    from dareq_edge.allocation.sizes import exported_size
    from dareq_edge.plan import plan_model

    def made(high: int, group: int) -> dict[str, QuantSpec]:
        """The first ``high`` blocks in 8 bits: which ones does not matter for the size."""
        plan = plan_model(model, options)
        for name, spec in plan.items():
            block = next((int(part) for part in name.split(".") if part.isdigit()), None)
            if block is not None:
                plan[name] = replace(spec, bits=8 if block < high else 4, group_size=group)
        return plan

    def size(high: int, group: int) -> int:
        return exported_size(model, made(high, group)).total

    high = max((n for n in range(blocks + 1) if size(n, GROUP) <= budget), default=0)
    finest = min((group for group in (32, 64) if size(0, group) <= budget), default=GROUP)
    bits = 4 + 4 * high / blocks
    found: dict[str, tuple[Plan, int | None]] = {"uniform": (made(0, finest), finest)}
    if high:
        found["ends-high"] = (ByRule(parse(f"ends-high+count={high // 2}")), GROUP)
        found["ewq-ranked"] = (ByRule(parse(f"ewq-ranked+bits={bits + 1e-6:.7f}")), GROUP)
    return found


def make_subjects(arguments: argparse.Namespace) -> list[Subject]:
    """One subject per rule and rate, and the budgeted one."""
    from dareq_edge.allocation.facts import facts_of_config
    from dareq_edge.allocation.planners import WithinBytes
    from dareq_edge.allocation.sizes import exported_size, matrix_bytes, matrix_shapes
    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.cli.recipes import make_recipe
    from dareq_edge.cli.subjects import Subject
    from dareq_edge.comparison.variants import Variant, parse_variant
    from dareq_edge.plan import QuantOptions, plan_model

    checkpoint = Checkpoint.open(arguments.model)
    model, facts = checkpoint.empty_model(), facts_of_config(checkpoint.config)
    options = QuantOptions(table_bits=8, position_bits=8, scale_dtype="bfloat16", group_size=GROUP)
    asked = parse_variant(arguments.recipe, group_size=GROUP, bits=4)
    recipe = make_recipe(asked.name, asked.values)
    options = recipe.options(options)
    plan, shapes = plan_model(model, options), matrix_shapes(model)
    inside = [matrix.name for matrix in facts.matrices if matrix.block is not None]
    weights = sum(shapes[name][0] * shapes[name][1] for name in inside)
    rest = exported_size(model, plan).total - sum(matrix_bytes(shapes[name], plan[name]) for name in inside)
    subjects = []
    for rate in map(float, arguments.rates.split(",")):
        budget = rest + int(rate * weights / 8) + LINES * len(inside)
        plans = rule_plans(model, options, facts.blocks, budget)
        plans["budgeted"] = (WithinBytes(budget), None)
        for name, (planner, group) in plans.items():
            shown = (("allocation", name), ("target_bits", f"{rate:g}"))
            variant = Variant(asked.name, asked.tier, group, 4, shown)
            own = replace(options, group_size=group)
            seed = 0 if getattr(recipe, "random", False) else None
            subjects.append(Subject(variant, own, ((seed, recipe),), storable=True, plan=planner))
    return subjects


def sizes(arguments: argparse.Namespace, subjects: list[Subject]) -> None:
    """Print what every row's export takes, from the plans in the checkpoints that were kept."""
    from dareq_edge.allocation.sizes import exported_size
    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.quantized import read_plan

    model = Checkpoint.open(arguments.model).empty_model()
    for subject in subjects:
        pattern = subject.variant.label.replace(":", "-").replace("@", "-").replace("/", "-")
        for folder in sorted((arguments.out / "checkpoints").glob(f"{pattern}*/")):
            plan = read_plan(Checkpoint.open(str(folder)))
            counts: dict[str, int] = {}
            for spec in plan.values():
                form = f"{spec.bits}@{spec.group_size or 'channel'}"
                counts[form] = counts.get(form, 0) + 1
            shown = ", ".join(f"{count} in {form}" for form, count in sorted(counts.items()))
            print(f"{subject.variant.label}: export of {exported_size(model, plan).total:,} bytes; {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "4.5,5,6")
    parser.add_argument("--recipe", default="dareq:analytic")
    arguments = parser.parse_args()
    subjects = make_subjects(arguments)
    compare(arguments, subjects, keep=True, coded=False)
    if not arguments.json:
        sizes(arguments, subjects)


if __name__ == "__main__":
    main()
