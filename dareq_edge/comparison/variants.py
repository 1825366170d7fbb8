"""How a recipe is written on the command line: NAME[:TIER][@GROUP][/BITS], e.g. "dareq:weights@64/3"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dareq_edge.errors import SpecError
from dareq_edge.spec import QuantSpec

_FORM = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9_-]*)(:(?P<tier>[a-z0-9_-]+))?(@(?P<group>[a-z0-9]+))?(/(?P<bits>[0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A recipe and the form it is asked for.

    Attributes:
        name: Of a recipe, or of a method that is only compared (``dareq_edge.dequantized``).
        tier: ``None`` is the recipe's own.
        group_size: Input channels per scale; ``None`` is per output channel.
        bits: Bits per code.
    """

    name: str
    tier: str | None
    group_size: int | None
    bits: int

    @property
    def family(self) -> str:
        """Name and tier: what points on one curve have in common."""
        return self.name if self.tier is None else f"{self.name}:{self.tier}"

    @property
    def form(self) -> str:
        """Group and bits, e.g. "@64/4" or "@channel/4"."""
        return f"@{self.group_size or 'channel'}/{self.bits}"

    @property
    def label(self) -> str:
        """The whole, which ``parse_variant`` reads back."""
        return self.family + self.form


def parse_variant(text: str, *, group_size: int | None, bits: int) -> Variant:
    """Read one recipe.

    Args:
        text: E.g. "rtn", "hqq@64", "dareq:weights@channel/3".
        group_size: Group if the text names none; ``None`` is per output channel.
        bits: Bits if the text names none.

    Raises:
        SpecError: It is not of that form, or bits or group are out of range.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise SpecError(f"{text!r} is not a recipe; write NAME[:TIER][@GROUP or @channel][/BITS], e.g. rtn@64/3")
    group = found["group"]
    if group == "channel":
        group_size = None
    elif group is not None:
        if not group.isdecimal():
            raise SpecError(f"recipe {text!r} names group {group!r}; use channel, 16, 32, 64, 128 or 256")
        group_size = int(group)
    variant = Variant(found["name"], found["tier"], group_size, int(found["bits"] or bits))
    try:
        QuantSpec(variant.bits, variant.group_size)
    except SpecError as error:
        raise SpecError(f"recipe {text!r} cannot be: {error}") from error
    return variant


def parse_variants(text: str, *, group_size: int | None, bits: int) -> list[Variant]:
    """Read a comma-separated list.

    Raises:
        SpecError: Nothing is named, something twice, or one of them is wrong.
    """
    parts = [part for part in text.split(",") if part.strip()]
    if not parts:
        raise SpecError("--recipes names no recipe; give a list, e.g. rtn,rtn@32,mse")
    variants = [parse_variant(part, group_size=group_size, bits=bits) for part in parts]
    for variant in variants:
        if variants.count(variant) > 1:
            raise SpecError(f"--recipes names {variant.label} twice; drop one")
    return variants
