"""Embeddings with a ``forward`` of their own, e.g. OPT's positions plus 2: how their table can be replaced under it.

A model's subclass computes which rows it wants and asks ``super().forward`` for them. A class made here has the
subclass first and another table second, so that this question goes to that table.
"""

from __future__ import annotations

import dis
import inspect
from itertools import pairwise, takewhile
from typing import TypeVar

from torch import nn

from dareq_edge.errors import UnsupportedArchitectureError

TableT = TypeVar("TableT", bound=nn.Module)

_ABOUT = ("device", "dtype", "shape")  # what a forward may ask of ``self.weight`` without reading it
_HOOKED = ("forward", "_old_forward", "_hf_hook")  # accelerate's, bound to the old module


def check_lookup(name: str, table: nn.Module) -> None:
    """Refuse an embedding whose rows do not all come from ``nn.Embedding.forward``.

    Args:
        name: For the message.
        table: An ``nn.Embedding``; nothing is run and no weight is read.

    Raises:
        UnsupportedArchitectureError: Its class reads ``self.weight`` itself, or it changes its rows (``max_norm``).
    """
    own = takewhile(lambda kind: kind is not nn.Embedding, type(table).__mro__)
    forwards = [vars(kind)["forward"] for kind in own if "forward" in vars(kind)]
    if getattr(table, "max_norm", None) is not None or not all(_defers(forward) for forward in forwards):
        raise UnsupportedArchitectureError(
            f"{name} is a {type(table).__name__}, which does not leave looking rows up to torch's nn.Embedding; keep "
            f"it in float with --skip {name}, or every such table with --position-bits 32 (position_bits=None in "
            "Python)"
        )


def _defers(forward: object) -> bool:
    """Whether a ``forward`` calls ``super().forward`` and never reads ``self.weight`` but for what it is."""
    code = getattr(inspect.unwrap(forward), "__code__", None) if callable(forward) else None
    if code is None or not {"super", "forward"} <= set(code.co_names):
        return False
    steps = pairwise(dis.get_instructions(code))
    return all(after.argval in _ABOUT for step, after in steps if step.argval == "weight")


def beneath(kind: type[nn.Module], table: type[TableT]) -> type[TableT]:
    """A class whose methods are ``kind``'s, and whose ``super().forward`` there is ``table``'s.

    Args:
        kind: ``nn.Embedding`` or a subclass that ``check_lookup`` accepts.
        table: A subclass of ``nn.Embedding`` that ``kind`` does not descend from.
    """
    return table if kind is nn.Embedding else type(f"{table.__name__}{kind.__name__}", (kind, table), {})


def adopt(new: nn.Module, old: nn.Module) -> None:
    """Give ``new`` every attribute, parameter and buffer of ``old`` that it has not, but no ``weight``."""
    vars(new).update({k: v for k, v in vars(old).items() if k not in vars(new) and k not in _HOOKED})
    new._parameters.update({k: v for k, v in old._parameters.items() if k != "weight"})
    new._buffers.update({k: v for k, v in old._buffers.items() if k not in new._buffers})
    new._non_persistent_buffers_set |= old._non_persistent_buffers_set
