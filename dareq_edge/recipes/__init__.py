"""Recipes: named, frozen ways to quantize a whole model; one file each, found by file name (``_`` is written ``-``).

A recipe module defines ``RECIPE``, a frozen dataclass of everything that decides the result; its fields are written
into config.json, so that a folder says how it was made. A recipe that treats every matrix alone is a
``MatrixRecipe``; one that looks at activations walks the decoder block by block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

import torch

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.errors import SpecError
from dareq_edge.plan import QuantOptions
from dareq_edge.plugins import available, load
from dareq_edge.progress import Progress
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec

Change = tuple[str, "torch.Tensor | QuantizedTensor"]
"""(name of a tensor of the transformers model, what takes its place)."""

FILE: Mapping[str, object] = MappingProxyType({"file": True})
"""Metadata of a field that names a file of the user's: what is written down is the name without its folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a recipe reads; everything in it is decided before the first weight is touched.

    Attributes:
        checkpoint: Headers, and tensors one at a time.
        names: Model tensor -> name in the files.
        plan: Spec per module that is to be quantized.
        model: On the meta device: structure only.
        options: The user's choices.
        work: Folder that survives an interruption, for recipes that resume; it exists.
        trust_remote_code: Let transformers run code that comes with the model.
    """

    checkpoint: Checkpoint
    names: Mapping[str, str]
    plan: Mapping[str, QuantSpec]
    model: torch.nn.Module
    options: QuantOptions
    work: Path
    trust_remote_code: bool = False

    def tensor(self, target: str) -> torch.Tensor:
        """A tensor of the model, by its name in the model; in the dtype of the file."""
        return self.checkpoint.tensor(self.names[target])


class Recipe(Protocol):
    """What every ``RECIPE``'s instances do."""

    @property
    def label(self) -> str:
        """Goes into every ``QuantSpec.method``: "rtn", "gptq", "dareq:self"."""
        ...

    def options(self, chosen: QuantOptions) -> QuantOptions:
        """The user's options with the per-matrix method this recipe uses, for the token table if for nothing else."""
        ...

    def check(self, source: Source) -> None:
        """Refuse what cannot work before any long work starts.

        Raises:
            DareqError: With one sentence that says what to do.
        """
        ...

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        """Every tensor that differs from the source, once, in any order; planned ones as ``QuantizedTensor``."""
        ...


def names() -> list[str]:
    """Names of all recipes, without importing them."""
    return [name.replace("_", "-") for name in available(__name__)]


def build(name: str, parameters: Mapping[str, object] | None = None) -> Recipe:
    """Make a recipe.

    Args:
        name: Plug-in name, e.g. "dareq".
        parameters: Values for fields other than the defaults.

    Raises:
        SpecError: No such recipe or field, or a value that cannot work.
    """
    factory = load(__name__, name.replace("-", "_")).RECIPE
    known = {f.name for f in dataclasses.fields(factory)}
    for key in parameters or {}:
        if key not in known:
            raise SpecError(f"recipe {name!r} has no setting {key!r} (it has: {', '.join(sorted(known)) or 'none'})")
    try:
        return cast("Recipe", factory(**(parameters or {})))
    except TypeError as error:
        raise SpecError(f"recipe {name!r} got a setting of the wrong type ({error})") from error


def recipe_json(recipe: Recipe) -> dict[str, object]:
    """Everything that decides the recipe's result, for config.json: its label and its settings.

    A recipe whose settings may be left to it has a property ``chosen``, a dataclass with what they are then.
    """
    found: dict[str, object] = {"label": recipe.label}
    for f in dataclasses.fields(recipe):  # type: ignore[arg-type]  # all are dataclasses
        value = getattr(recipe, f.name)
        found[f.name] = Path(value).name if value and f.metadata.get("file") else value
    chosen = getattr(recipe, "chosen", None)
    return found | ({} if chosen is None else dataclasses.asdict(chosen))
