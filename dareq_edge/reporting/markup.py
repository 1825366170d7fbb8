"""HTML as values: whatever is not markup already is escaped, so that no text of a model can become part of a page.

Elements are written so that the page is well-formed XML too.
"""

from __future__ import annotations

import html
import re

Child = object
"""Markup is taken as it is, ``None`` as nothing, all else as text."""

_UNSEEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_VOID = frozenset({"meta", "br", "circle", "line", "path", "rect", "polyline"})


class Markup(str):
    """Text that is markup: made by ``el``, ``join`` and ``raw`` only."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Text of any origin.

    Control characters and lone surrogates, which no page may hold, become U+FFFD.
    """
    return value if isinstance(value, Markup) else Markup(html.escape(_UNSEEN.sub("\ufffd", str(value))))


def join(*children: Child) -> Markup:
    """Children one after the other."""
    return Markup("".join(text(c) for c in children if c is not None))


def raw(own: str) -> Markup:
    """Text that this package wrote itself, or that is escaped already, e.g. a style sheet."""
    return Markup(own)


def el(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element.

    >>> el("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'

    Args:
        name: Of the element.
        *children: See ``Child``.
        **attributes: A trailing underscore is dropped and an inner one is a hyphen; ``None`` is left out, ``True`` is
            an attribute with its own name as value.
    """
    parts = []
    for key, value in attributes.items():
        label = key.rstrip("_").replace("_", "-")
        if value is not None and value is not False:
            parts.append(f' {label}="{text(label if value is True else value)}"')
    head = name + "".join(parts)
    inner = join(*children)
    return Markup(f"<{head}/>" if name in _VOID and not inner else f"<{head}>{inner}</{name}>")
