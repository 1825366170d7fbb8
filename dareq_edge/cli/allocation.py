"""What quantize and deploy are asked for: options, recipe, and who decides the bits of every matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dareq_edge.cli import options
from dareq_edge.cli.recipes import RecipeChoice, recipe_settings
from dareq_edge.errors import AllocationError, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import typer
    from torch import nn

    from dareq_edge.plan import QuantOptions
    from dareq_edge.quantize import Planner
    from dareq_edge.recipes import Recipe

_CODED = "max_bytes"
"""Setting of recipes for an entropy coder: it is them, not a plan, that meet a size."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """The user's choice.

    Attributes:
        options: Bits, groups, tables.
        recipe: What decides codes and scales.
        plan: Makes the plan in place of bits and groups in ``options``; ``None`` leaves it to them.
        max_bytes: Most that graph and data may take together, packed if ``coded``; ``None`` is any size.
        coded: Whether the recipe meets ``max_bytes`` for the packed folder.
    """

    options: QuantOptions
    recipe: Recipe
    plan: Planner | None = None
    max_bytes: int | None = None
    coded: bool = False


def quantization(context: typer.Context, *, cache_bits: int = 32, packed: bool = True) -> Quantization:
    """Read a command's options, which have the same names in all of them.

    Args:
        context: Of the command.
        cache_bits: As the model will be exported.
        packed: Whether the folder will be packed, as far as the command knows.

    Raises:
        SpecError: Options contradict each other, or one cannot be.
        AllocationError: The size cannot be.
    """
    from dareq_edge.plan import QuantOptions

    given: dict[str, Any] = context.params
    chosen = QuantOptions(
        bits=given["bits"],
        group_size=options.group_size(given["group_size"]),
        scale_dtype=given["scale_dtype"],
        skip=tuple(given["skip"] or ()),
        table_bits=options.table_bits(given["table_bits"]),
        position_bits=options.table_bits(given["position_bits"]),
    )
    choice = RecipeChoice(**{name: given[name] for name in RecipeChoice.__dataclass_fields__})
    rule, size = given["rule"], given["max_size"]
    coded = _CODED in recipe_settings(choice.name)
    if rule is not None:
        if size is not None:
            raise SpecError("--rule and --max-size both decide bits; give one of them")
        if coded:
            raise SpecError(
                f"--rule decides the bits of codes, and recipe {choice.name} always has 8-bit codes; leave it out "
                "(docs/allocation.md says how rules and rates are compared)"
            )
        _refuse(context, "--rule", ["bits"])
        return Quantization(chosen, choice.build(), _by_rule(rule))
    if size is None:
        return Quantization(chosen, choice.build())
    _refuse(context, "--max-size", ["bits", "group_size"])
    most = _max_bytes(size, given, cache_bits)
    if not coded:
        return Quantization(chosen, choice.build(), _within(most, cache_bits), most)
    if not packed:
        raise SpecError(
            f"codes of recipe {choice.name} have their size in a packed folder; add --pack to meet --max-size"
        )
    graph = _graph_bytes(given, choice.build().options(chosen), cache_bits)
    room = most - graph
    if room < 1:
        raise AllocationError(f"--max-size {size} is less than the {graph:,} bytes of the graph alone; allow more")
    return Quantization(chosen, choice.build(**{_CODED: room}), None, most, coded=True)


def _refuse(context: typer.Context, instead: str, names: Sequence[str]) -> None:
    """Options that another one takes the place of."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise SpecError(f"{instead} decides --{name.replace('_', '-')}; give one of the two")


def _max_bytes(size: str, given: dict[str, Any], cache_bits: int) -> int:
    """Bytes of a size; the model is looked at only where it is written in something else."""
    from dareq_edge.allocation.bytes import parse_size

    found = parse_size(size)
    if found.bytes is not None and not found.memory:
        return found.bytes
    from dareq_edge.allocation.memory import file_bytes
    from dareq_edge.allocation.sizes import parameter_count

    model = _opened(given)[1]
    if found.bytes is None:
        return found.of(parameter_count(model))
    return file_bytes(found.bytes, model.config, cache_bits=cache_bits)


def _opened(given: dict[str, Any]) -> tuple[Path, nn.Module]:
    """The model's folder, and its structure."""
    from dareq_edge.checkpoint import Checkpoint

    trusted = given["trust_remote_code"]
    checkpoint = Checkpoint.open(given["model"], given["revision"], trust_remote_code=trusted)
    return checkpoint.folder, checkpoint.empty_model(trust_remote_code=trusted)


def _graph_bytes(given: dict[str, Any], chosen: QuantOptions, cache_bits: int) -> int:
    """Bytes of the exported graph: made without weights, which takes seconds."""
    from dareq_edge.allocation.sizes import graph_bytes
    from dareq_edge.plan import plan_model
    from dareq_export.planned import planned_size

    folder, model = _opened(given)
    exact = planned_size(folder, plan_model(model, chosen), profile=given.get("profile", "native")).graph
    return exact + graph_bytes(model, cache_bits=cache_bits) - graph_bytes(model)


def _within(max_bytes: int, cache_bits: int) -> Planner:
    from dareq_edge.allocation.planners import WithinBytes

    return WithinBytes(max_bytes, cache_bits=cache_bits)


def _by_rule(written: str) -> Planner:
    from dareq_edge.allocation.planners import ByRule
    from dareq_edge.allocation.rules import parse

    return ByRule(parse(written))
