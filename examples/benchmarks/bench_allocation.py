"""Rules of allocation against equal slope, at the same coded bits per weight.

    python -m examples.benchmarks.bench_allocation MODEL --text FILE [--text FILE ...] --out DIR [--plot FILE]
        [--rates 3.5,4] [--rules equal-slope,uniform] [--inside even] [--tier analytic] [--setting trellis=false]
        [--max-tokens N]

Every row is `dareq-entropy` with the same settings; what differs is who decides the bits of a block. `equal-slope`
spends bits where they lower the loss most, as the recipe does by itself. A rule (docs/allocation.md) gives a block
one bit per class more or less than another (`--apart` changes that), shifted so that the mean is the rate that is
compared at; the published distances of 4 and 8 bits would only handicap it. All matrices of a block take the same
bits, as rules mean it; with `--inside slope` bits are spent at equal slope inside a block, whoever decided its bits.
DIR keeps finished rows: an interrupted run goes on with what is missing.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from examples.benchmarks.allocation_rows import add_options, compare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dareq_edge.allocation.facts import Facts
    from dareq_edge.cli.subjects import Subject

OURS = "equal-slope"
RULES = {
    "uniform": "uniform+bits=4",
    "ends-high": "ends-high+low=4+high=5",
    "k-quant": "k-quant+low=4+high=5",
    "ewq": "ewq+low=4+middle=5+high=6",
    "ewq-ranked": "ewq-ranked+low=4+high=5+bits=4.5",
    "fastewq": "fastewq+low=4+middle=5+high=6",
}


def block_rates(bits: Sequence[int], sizes: Sequence[int], rate: float, apart: float) -> tuple[float, ...]:
    """Rates of blocks, ``apart`` bits from class to class, whose mean over all weights is ``rate``."""
    mean = sum(b * n for b, n in zip(bits, sizes, strict=True)) / sum(sizes)
    return tuple(rate + apart * (b - mean) for b in bits)


def decide(model: str, names: Sequence[str]) -> tuple[Facts, dict[str, tuple[int, ...]]]:
    """What every rule decides about the model's blocks; entropies are measured once, if any rule asks for them."""
    from dareq_edge.allocation.entropy import block_entropies
    from dareq_edge.allocation.facts import facts_of_config
    from dareq_edge.allocation.rules import parse
    from dareq_edge.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(model)
    facts, rules = facts_of_config(checkpoint.config), {name: parse(RULES[name]) for name in names}
    needed = any(rule.needs == "weights" for rule in rules.values())
    scores = block_entropies(checkpoint, facts) if needed else None
    found = {}
    for name, rule in rules.items():
        bits = rule(facts, scores if rule.needs == "weights" else None)
        found[name] = tuple(b for b in bits if b is not None)  # no class of RULES is float
    return facts, found


def make_subjects(arguments: argparse.Namespace, rules: Sequence[str], rates: Sequence[float]) -> list[Subject]:
    """One subject per rule and rate."""
    from dareq_edge.cli.subjects import Subject
    from dareq_edge.comparison.variants import Variant
    from dareq_edge.plan import QuantOptions
    from dareq_edge.recipes import build

    given = {name: json.loads(value) for name, _, value in (text.partition("=") for text in arguments.setting)}
    facts, decisions = decide(arguments.model, [name for name in rules if name != OURS])
    sizes = [facts.parameters(i) for i in range(facts.blocks)]
    subjects = []
    for name in rules:
        for rate in rates:
            settings: dict[str, object] = {"tier": arguments.tier, "target_bits": rate, **given}
            if name != OURS:
                settings["even"] = arguments.inside == "even"
                settings["rates"] = block_rates(decisions[name], sizes, rate, arguments.apart)
            recipe = build("dareq-entropy", settings)
            who = name if name == OURS or arguments.inside == "even" else f"{name}, slope inside"
            shown = (("allocation", who), ("target_bits", f"{rate:g}"))
            variant = Variant("dareq-entropy", arguments.tier, None, 8, shown)
            seed = 0 if getattr(recipe, "random", False) else None
            options = replace(QuantOptions(scale_dtype="bfloat16"), bits=8)
            subjects.append(Subject(variant, options, ((seed, recipe),), storable=True))
    return subjects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "3.5,4,4.5,5,6")
    parser.add_argument("--rules", default=",".join([OURS, *RULES]))
    parser.add_argument("--apart", type=float, default=1.0)
    parser.add_argument(
        "--inside", choices=("even", "slope"), default="even", help="how a rule's block spends its bits"
    )
    parser.add_argument("--tier", default="analytic")
    parser.add_argument("--setting", action="append", default=[], help="of the recipe, e.g. trellis=false")
    arguments = parser.parse_args()
    names = arguments.rules.split(",")
    if unknown := sorted(set(names) - {OURS, *RULES}):
        parser.error(f"unknown rule {unknown[0]}; there are {', '.join([OURS, *RULES])}")
    rates = [float(rate) for rate in arguments.rates.split(",")]
    compare(arguments, make_subjects(arguments, names, rates), keep=False, coded=True)


if __name__ == "__main__":
    main()
