"""Which recipes a comparison runs: from the command line's words to methods, every mistake found before any work."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dareq_edge.cli.recipes import RecipeChoice, calibrates, make_recipe, recipe_settings
from dareq_edge.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dareq_edge.comparison.variants import Variant
    from dareq_edge.dequantized import Dequantizer
    from dareq_edge.plan import QuantOptions
    from dareq_edge.quantize import Planner
    from dareq_edge.recipes import Recipe
    from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True)
class Subject:
    """One recipe of a comparison.

    Attributes:
        variant: What the user wrote.
        options: Bits, groups, tables.
        methods: (seed, method) per run; one with seed ``None`` where nothing is random.
        storable: Whether a checkpoint can hold it.
        plan: In place of bits and groups, or what makes it: a dataclass, which other processes are given too.
    """

    variant: Variant
    options: QuantOptions
    methods: tuple[tuple[int | None, Recipe | Dequantizer], ...]
    storable: bool
    plan: Mapping[str, QuantSpec] | Planner | None = None

    def record(self, method: Recipe | Dequantizer) -> list[object]:
        """Everything that decides the weights, as plain data."""
        settings = asdict(method)  # type: ignore[call-overload]  # every method is a dataclass
        plan = [] if self.plan is None else [repr(self.plan)]
        return [self.variant.name, settings, asdict(self.options), _content(settings.get("calibration")), *plan]


def make_subjects(variants: Sequence[Variant], base: QuantOptions, choice: RecipeChoice, seeds: int) -> list[Subject]:
    """Make every method of a comparison.

    Args:
        variants: What the user wrote.
        base: Options that all share; bits and group are each variant's own.
        choice: Settings; a recipe gets those it has.
        seeds: Runs of a recipe that draws at random.

    Raises:
        SpecError: Unknown names, tiers or settings; a setting that no recipe has, or that one lacks.
    """
    from dareq_edge import dequantized, recipes
    from dareq_edge.plugins import unknown

    subjects, used = [], set[str]()
    for variant in variants:
        options = replace(base, bits=variant.bits, group_size=variant.group_size)
        if variant.name in dequantized.names():
            if variant.values:
                raise SpecError(f"{variant.name} has no tiers or settings; write {variant.name}{variant.form}")
            method = dequantized.build(variant.name)
            options = replace(options, scale_dtype="float32")  # their own published form
            subjects.append(Subject(variant, options, ((None, method),), storable=False))
            continue
        if variant.name not in recipes.names():
            raise unknown("recipe", variant.name, sorted({*recipes.names(), *dequantized.names()}))
        known = recipe_settings(variant.name)
        given = {name: value for name, value in choice.settings.items() if name in known}
        if not calibrates(known):
            given.pop("calibration", None)
        used |= set(given)
        _content(given.get("calibration"))  # refuses a missing file
        made = _seeded(variant, given, seeds, choice.seed or 0, seeded="seed" in known)
        made[0][1].options(options)  # refuses a form that the recipe does not have
        subjects.append(Subject(variant, options, made, storable=True))
    for name in sorted(set(choice.settings) - used):
        raise SpecError(f"--{name.replace('_', '-')} was given but no recipe of this comparison has that setting")
    return subjects


def _seeded(
    variant: Variant, given: dict[str, object], seeds: int, first: int, *, seeded: bool
) -> tuple[tuple[int | None, Recipe], ...]:
    """One recipe per seed; a recipe can say with ``random`` that its settings leave nothing to chance."""
    settings = given | variant.values
    recipe = make_recipe(variant.name, settings)
    if not seeded or not getattr(recipe, "random", True):
        return ((None, recipe),)
    numbers = range(first, first + seeds)
    return tuple((seed, make_recipe(variant.name, settings | {"seed": seed})) for seed in numbers)


def _content(path: object) -> str | None:
    """Hash of a calibration file, so that another text under the same name is another recipe."""
    from dareq_edge.folders import sha256_of

    if not path:
        return None
    file = Path(cast("str", path))
    if not file.is_file():
        raise SpecError(f"there is no calibration file {file}; check --calibration")
    return sha256_of(file)
