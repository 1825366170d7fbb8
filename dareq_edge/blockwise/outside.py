"""Outside: what a model does before its first and after its last block, and what it hands to every block.

The model's own code runs; only the layers' ``forward`` is covered by a function that listens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from dareq_edge.blockwise.blocks import Skeleton
from dareq_edge.errors import UnsupportedArchitectureError

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""What a layer is called with after its hidden states."""
_Heard = Callable[[int, torch.Tensor, Arguments], torch.Tensor]
"""(layer, hidden states, arguments) -> hidden states that the layer shall return."""


class _Stop(Exception):  # noqa: N818  # no error: leaves a forward pass that has nothing more to tell
    pass


@dataclass(frozen=True, slots=True, eq=False)
class Outside:
    """All methods need ``skeleton.surroundings``; ids are int64 [B, T] without padding.

    Attributes:
        skeleton: The model without weights.
        extra: What a layer returns after its hidden states; ``None`` if it returns them alone.
        width: D.
    """

    skeleton: Skeleton
    extra: tuple[Any, ...] | None
    width: int

    @classmethod
    def open(cls, skeleton: Skeleton) -> Outside:
        """Find out what layers return, with the first one's weights in memory.

        Raises:
            UnsupportedArchitectureError: Layers pass more than hidden states, or are given something that depends
                on the text.
            CheckpointError: A weight file can no longer be read.
        """
        first = torch.zeros(1, 2, dtype=torch.int64)
        hidden, (args, kwargs) = _first_layer(skeleton, first)
        out = skeleton.block(0)(hidden, *args, **kwargs)
        extra = tuple(out[1:]) if isinstance(out, tuple) else None
        found = cls(skeleton, extra, hidden.shape[-1])
        here, there = (found.enter(ids)[1] for ids in (first, first + 1))
        same = all(torch.equal(a, b) for a, b in zip(_tensors(here), _tensors(there), strict=True))
        if not same or _tensors(extra) or hidden.ndim != 3:
            raise UnsupportedArchitectureError(
                f"the layers of {type(skeleton.model).__name__} exchange more than hidden states, so it cannot be "
                "walked block by block; use a recipe that treats every matrix alone, e.g. mse"
            )
        return found

    def enter(self, ids: torch.Tensor) -> tuple[torch.Tensor, list[Arguments]]:
        """The first layer's hidden states float32 [B, T, D], and every layer's other arguments."""
        hidden: list[torch.Tensor] = []
        arguments: list[Arguments] = []

        def heard(layer: int, x: torch.Tensor, given: Arguments) -> torch.Tensor:
            hidden.append(x)
            arguments.append(given)
            if layer == len(self.skeleton.layers) - 1:
                raise _Stop
            return x

        with self._listening(heard):
            self.skeleton.base(input_ids=ids, use_cache=False)
        return hidden[0], arguments

    def leave(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits float32 [B, T, V] for hidden states [B, T, D] after the last layer; needs the head's weights."""
        ids = torch.zeros(hidden.shape[:2], dtype=torch.int64)  # nobody looks at what becomes of them
        with self._listening(lambda *_: hidden):
            logits: torch.Tensor = self.skeleton.model(input_ids=ids, use_cache=False).logits
        return logits.float()

    @contextmanager
    def _listening(self, heard: _Heard) -> Iterator[None]:
        with _covered(self.skeleton.layers, heard, self.extra):
            yield


def _first_layer(skeleton: Skeleton, ids: torch.Tensor) -> tuple[torch.Tensor, Arguments]:
    """What the first layer is called with."""
    found: list[tuple[torch.Tensor, Arguments]] = []

    def heard(_: int, x: torch.Tensor, given: Arguments) -> torch.Tensor:
        found.append((x, given))
        raise _Stop

    with _covered(skeleton.layers, heard, None):
        skeleton.base(input_ids=ids, use_cache=False)
    return found[0]


@contextmanager
def _covered(layers: nn.ModuleList, heard: _Heard, extra: tuple[Any, ...] | None) -> Iterator[None]:
    """Inside, layers call ``heard`` instead of computing; ``_Stop`` from there ends the block quietly."""

    def cover(index: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            x = args[0] if args else kwargs.pop("hidden_states")
            x = heard(index, x, (args[1:], kwargs))
            return x if extra is None else (x, *extra)

        return forward

    for index, layer in enumerate(layers):
        layer.forward = cover(index)
    try:
        yield
    except _Stop:
        pass
    finally:
        for layer in layers:
            del layer.forward


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
