"""Plug-ins are found by file name: ``quantizers/rtn.py`` is the quantizer "rtn". Standard library only."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Sequence
from types import ModuleType

from dareq_edge.errors import SpecError


def available(package: str) -> list[str]:
    """Names of the plug-ins in a package (modules without a leading underscore), without importing them."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise SpecError(f"no plug-in package {package!r}")
    found = pkgutil.iter_modules(spec.submodule_search_locations)
    return sorted(m.name for m in found if not m.name.startswith("_"))


def load(package: str, name: str) -> ModuleType:
    """Import one plug-in.

    Raises:
        SpecError: No such plug-in; the message names the nearest match and lists all.
    """
    names = available(package)
    if name not in names:
        raise unknown(package.rsplit(".", 1)[-1].removesuffix("s"), name, names)
    return importlib.import_module(f"{package}.{name}")


def unknown(kind: str, name: str, names: Sequence[str]) -> SpecError:
    """The error for a name that does not exist: says the nearest match and lists all.

    Args:
        kind: What is named, e.g. "quantizer".
        name: What the user wrote.
        names: What there is.

    Example:
        >>> print(unknown("rule", "ewqq", ["ewq", "uniform"]))
        unknown rule 'ewqq'; did you mean 'ewq'? (available: ewq, uniform)
    """
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return SpecError(f"unknown {kind} {name!r}{hint} (available: {', '.join(names)})")
