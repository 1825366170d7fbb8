"""The recipe that a command's options name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.cli.options import DEFAULT_RECIPE
from dareq_edge.comparison.variants import parse_variant
from dareq_edge.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from dareq_edge.recipes import Recipe


@dataclass(frozen=True, slots=True)
class RecipeChoice:
    """The user's choice; see the options of the same names. What is ``None`` is left to the recipe.

    Attributes:
        recipe: NAME, NAME:TIER, and settings, see ``comparison.variants``.
        tier: The tier, if it is not part of ``recipe``.
        calibration: A text file, or a .npy file of token ids.
        seed: For recipes that draw at random.
        samples: Calibration windows.
        sample_length: Tokens per calibration window.
    """

    recipe: str = DEFAULT_RECIPE
    tier: str | None = None
    calibration: Path | None = None
    seed: int | None = None
    samples: int | None = None
    sample_length: int | None = None

    @property
    def name(self) -> str:
        """The recipe's name alone.

        Raises:
            SpecError: What was written is not of that form.
        """
        return parse_variant(self.recipe, group_size=None, bits=4).name

    def build(self, **decided: object) -> Recipe:
        """Make the recipe.

        Args:
            **decided: Settings that follow from other options; they take the place of the recipe's own.

        Raises:
            SpecError: No such recipe, it lacks a setting that was given, or needs one that was not.
        """
        if "@" in self.recipe or "/" in self.recipe:  # how compare writes it
            raise SpecError(
                f"--recipe {self.recipe} names more than a recipe; use --group-size and --bits for the rest"
            )
        variant = parse_variant(self.recipe, group_size=None, bits=4)
        given, own = self.settings, variant.values
        for name in sorted(set(given) & set(own)):
            if given[name] != own[name]:
                option = f"--{name.replace('_', '-')} {given[name]}"
                raise SpecError(f"--recipe {self.recipe} and {option} contradict each other; drop one of them")
        return make_recipe(variant.name, given | own | decided)

    @property
    def settings(self) -> dict[str, object]:
        """What was given, by the name of the recipe's field."""
        given = {
            "tier": self.tier,
            "calibration": None if self.calibration is None else str(self.calibration),
            "seed": self.seed,
            "samples": self.samples,
            "sample_length": self.sample_length,
        }
        return {name: value for name, value in given.items() if value is not None}


def make_recipe(name: str, settings: Mapping[str, object]) -> Recipe:
    """A recipe by name, with the settings that the user gave.

    Raises:
        SpecError: No such recipe, it lacks a setting that was given, or needs one that was not.
    """
    from dareq_edge import recipes

    known = recipe_settings(name)
    if calibrates(known) and "calibration" not in settings:
        raise SpecError(f"recipe {name!r} needs --calibration FILE, a text of yours (or .npy token ids)")
    return recipes.build(name, settings)


def calibrates(settings: Collection[str]) -> bool:
    """Whether a recipe with these settings works on text of the user's; one with tiers makes its own."""
    return "calibration" in settings and "tier" not in settings


def recipe_settings(name: str) -> set[str]:
    """Settings that a recipe has.

    Raises:
        SpecError: No such recipe.
    """
    from dareq_edge import recipes
    from dareq_edge.plugins import load, unknown

    if name not in recipes.names():
        raise unknown("recipe", name, recipes.names())
    factory = load("dareq_edge.recipes", name.replace("-", "_")).RECIPE
    return {f.name for f in fields(factory)}
