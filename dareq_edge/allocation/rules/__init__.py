"""Rules: one file each, found by file name (``_`` is written ``-``); each says how many bits every block gets.

A rule module defines ``RULE``, a frozen dataclass of the rule's settings. A rule is called with facts and, if it
``needs`` "weights", with the entropy of every block; it reads nothing itself.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Protocol, cast

from dareq_edge.allocation.facts import Facts
from dareq_edge.errors import SpecError
from dareq_edge.plugins import available, load, unknown

Needs = Literal["config", "weights"]
"""What a rule's decision rests on; "weights": block entropies are to be measured first."""

_FORM = re.compile(r"(?P<name>[a-z0-9][a-z0-9_-]*)(?P<settings>(\+[a-z_]+=[A-Za-z0-9_.-]+)*)")


class Rule(Protocol):
    """What every ``RULE``'s instances do."""

    needs: ClassVar[Needs]

    def __call__(self, facts: Facts, scores: Sequence[float] | None) -> tuple[int | None, ...]:
        """Decide.

        Args:
            facts: Of the model.
            scores: Entropy of every block, nats; ``None`` where ``needs`` is "config".

        Returns:
            Bits of every block, 2 to 8; ``None`` keeps a block float ("raw").

        Raises:
            SpecError: Scores are needed and missing, or are not one finite number per block.
        """
        ...


def names() -> list[str]:
    """Names of all rules, without importing them."""
    return [name.replace("_", "-") for name in available(__name__)]


def build(name: str, settings: Mapping[str, object] | None = None) -> Rule:
    """Make a rule.

    Args:
        name: Plug-in name, e.g. "ewq".
        settings: Values for fields other than the defaults.

    Raises:
        SpecError: No such rule or setting, or a value that cannot work.
    """
    if name.replace("_", "-") not in names():
        raise unknown("rule", name, names())
    factory = load(__name__, name.replace("-", "_")).RULE
    known = {f.name for f in dataclasses.fields(factory)}
    for key in settings or {}:
        if key not in known:
            raise SpecError(f"rule {name!r} has no setting {key!r} (it has: {', '.join(sorted(known)) or 'none'})")
    return cast("Rule", factory(**(settings or {})))


def parse(text: str) -> Rule:
    """A rule as written on the command line: NAME[+SETTING=VALUE…], e.g. "ewq+deviations=0.65".

    Raises:
        SpecError: It is not of that form, there is no such rule or setting, or a value cannot work.

    Example:
        >>> parse("ends-high+count=1")
        EndsHigh(count=1, high=8, low=4)
        >>> parse("uniform+bits=null").bits is None
        True
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise SpecError(f"{text!r} is not a rule; write NAME[+SETTING=VALUE…], e.g. ewq+deviations=0.65")
    settings: dict[str, object] = {}
    for name, _, value in (part.partition("=") for part in found["settings"].split("+")[1:]):
        if name in settings:
            raise SpecError(f"rule {text!r} sets {name} twice; drop one")
        settings[name] = _value(value)
    return build(found["name"], settings)


def check_bits(name: str, value: object, *, raw: bool = True) -> None:
    """Refuse what cannot be a block's bits.

    Args:
        name: The setting, for the message.
        value: What was given.
        raw: Whether ``None``, a float block, will do.

    Raises:
        SpecError: It cannot.
    """
    number = isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= 8
    if not number and not (raw and value is None):
        raise SpecError(f"{name} is {value!r}; use a whole number from 2 to 8{', or null for float' if raw else ''}")


def check_number(name: str, value: object, least: float, most: float) -> None:
    """Refuse a setting that is no number, or out of range.

    Raises:
        SpecError: It is.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
        raise SpecError(f"{name} is {value!r}; use a number from {least:g} to {most:g}")


def check_scores(facts: Facts, scores: Sequence[float] | None) -> Sequence[float]:
    """The scores, if there is a finite one per block.

    Raises:
        SpecError: There is not.
    """
    if scores is None or len(scores) != facts.blocks or not all(math.isfinite(s) for s in scores):
        raise SpecError(
            f"this rule needs the entropy of each of the {facts.blocks} blocks, a finite number; got {scores!r}"
        )
    return scores


def _value(text: str) -> object:
    """A number, true, false or null as JSON has them; all else is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
