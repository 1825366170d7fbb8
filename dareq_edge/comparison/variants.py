"""How a recipe is written on the command line: NAME[:TIER][+SETTING=VALUE…][@GROUP][/BITS].

E.g. "dareq:weights@64/3" or "dareq+tuning=0+descent=1".
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dareq_edge.errors import SpecError
from dareq_edge.spec import QuantSpec

_FORM = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9_-]*)(:(?P<tier>[a-z0-9_-]+))?(?P<settings>(\+[a-z_]+=[A-Za-z0-9_.-]+)*)"
    r"(@(?P<group>[a-z0-9]+))?(/(?P<bits>[0-9]+))?"
)
_SIZING = ("target_bits", "lam")
"""Settings that decide a recipe's size as bits and group do."""
_ELSEWHERE = {"tier": "NAME:TIER", "seed": "--seed", "calibration": "--calibration"}


@dataclass(frozen=True, slots=True)
class Variant:
    """A recipe and the form it is asked for.

    Attributes:
        name: Of a recipe, or of a method that is only compared (``dareq_edge.dequantized``).
        tier: ``None`` is the recipe's own.
        group_size: Input channels per scale; ``None`` is per output channel.
        bits: Bits per code.
        settings: Of the recipe, as written: (field, value).
    """

    name: str
    tier: str | None
    group_size: int | None
    bits: int
    settings: tuple[tuple[str, str], ...] = ()

    @property
    def values(self) -> dict[str, object]:
        """Settings and tier by field: numbers, true, false and null as JSON has them, all else as text."""
        given = {name: _value(text) for name, text in self.settings}
        return given if self.tier is None else {"tier": self.tier, **given}

    @property
    def family(self) -> str:
        """All but group and bits."""
        return self._named(self.settings)

    @property
    def curve(self) -> str:
        """All that does not decide the size: what points on one curve have in common."""
        return self._named([s for s in self.settings if s[0] not in _SIZING])

    @property
    def point(self) -> str:
        """The rest: e.g. "target_bits=3" or "@64/4"."""
        return ", ".join(f"{name}={value}" for name, value in self.settings if name in _SIZING) or self.form

    def _named(self, settings: Sequence[tuple[str, str]]) -> str:
        tier = "" if self.tier is None else f":{self.tier}"
        return self.name + tier + "".join(f"+{name}={value}" for name, value in settings)

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

    Example:
        >>> parse_variant("dareq:weights+descent=1@64", group_size=None, bits=4).label
        'dareq:weights+descent=1@64/4'
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise SpecError(
            f"{text!r} is not a recipe; write NAME[:TIER][+SETTING=VALUE][@GROUP or @channel][/BITS], e.g. rtn@64/3"
        )
    group = found["group"]
    if group == "channel":
        group_size = None
    elif group is not None:
        if not group.isdecimal():
            raise SpecError(f"recipe {text!r} names group {group!r}; use channel, 16, 32, 64, 128 or 256")
        group_size = int(group)
    settings = tuple((name, value) for name, _, value in (s.partition("=") for s in found["settings"].split("+")[1:]))
    for name, _ in settings:
        if name in _ELSEWHERE:
            raise SpecError(f"recipe {text!r} sets {name} with a plus; use {_ELSEWHERE[name]}")
        if len([s for s in settings if s[0] == name]) > 1:
            raise SpecError(f"recipe {text!r} sets {name} twice; drop one")
    variant = Variant(found["name"], found["tier"], group_size, int(found["bits"] or bits), settings)
    try:
        QuantSpec(variant.bits, variant.group_size)
    except SpecError as error:
        raise SpecError(f"recipe {text!r} cannot be: {error}") from error
    return variant


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


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
