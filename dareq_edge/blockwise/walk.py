"""Decoder: a causal language model run block by block, with the weights of few blocks in memory.

The model's own code says what every layer is given (masks, rotary embeddings, positions; layers of one model may
differ). That the blocks in a row do what the model does is tested for every family, not assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from dareq_edge.blockwise.blocks import Skeleton
from dareq_edge.blockwise.outside import Arguments, Outside
from dareq_edge.recipes import Source

Compute = Literal["float32", "bfloat16"]
"""Precision of matrix products inside blocks (autocast); hidden states between blocks are float32 either way."""


class Stop(Exception):  # noqa: N818  # no error
    """Raised by a hook to leave a forward pass that has nothing more to tell."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoder:
    """See the module. Hidden states are float32 [S, T, D]: S windows of T tokens without padding.

    Attributes:
        outside: What happens before and after the blocks.
        batch: Windows per forward pass.
        compute: See ``Compute``.
    """

    outside: Outside
    batch: int = 8
    compute: Compute = "float32"
    _arguments: dict[tuple[int, int], list[Arguments]] = field(default_factory=dict)

    @classmethod
    @torch.no_grad()
    def open(cls, source: Source, *, batch: int = 8, compute: Compute = "float32") -> Decoder:
        """Build the structure and check that this architecture can be walked.

        Reads the embeddings and the first block, and forgets them again.

        Raises:
            UnsupportedArchitectureError: It cannot.
            CheckpointError: A weight file can no longer be read.
        """
        skeleton = Skeleton.open(source)
        with skeleton.surroundings(head=False):
            decoder = cls(Outside.open(skeleton), batch, compute)
            decoder._arguments[1, 2] = decoder.outside.enter(torch.zeros(1, 2, dtype=torch.int64))[1]  # for groups
        return decoder

    @property
    def skeleton(self) -> Skeleton:
        """The model without weights."""
        return self.outside.skeleton

    @property
    def count(self) -> int:
        """Number of blocks."""
        return len(self.skeleton.layers)

    def path(self, index: int) -> str:
        """Name of a block in the model, e.g. "model.decoder.layers.3"."""
        return f"{self.skeleton.path}.{index}"

    def block(self, index: int) -> nn.Module:
        """A fresh copy of a block with its weights in float32, to run, to change and to drop."""
        return self.skeleton.block(index)

    def batches(self, windows: torch.Tensor) -> Iterator[slice]:
        """Slices of windows, ``batch`` at a time."""
        return (slice(i, i + self.batch) for i in range(0, len(windows), self.batch))

    @torch.no_grad()
    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """What the first block is given.

        Args:
            ids: int64 [S, T].

        Returns:
            float32 [S, T, D].
        """
        hidden = torch.empty(*ids.shape, self.outside.width)
        with self.skeleton.surroundings(head=False):
            for part in self.batches(ids):
                hidden[part], arguments = self.outside.enter(ids[part])
                self._arguments.setdefault(_shape(hidden[part]), arguments)
        return hidden

    @torch.no_grad()
    def forward(self, block: nn.Module, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """``run`` without gradients."""
        return self.run(block, index, hidden)

    def run(self, block: nn.Module, index: int, hidden: torch.Tensor) -> torch.Tensor:
        """One batch through one block, with gradients where they are wanted.

        Args:
            block: From ``block``, changed or not.
            index: Which block it is: layers may be given different masks.
            hidden: float32 [b, T, D].

        Returns:
            float32 [b, T, D], new.
        """
        args, kwargs = self.arguments(hidden)[index]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.compute == "bfloat16"):
            out = block(hidden, *args, **kwargs)
        found: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return found.float()

    def inputs(
        self, block: nn.Module, index: int, hidden: torch.Tensor, names: Sequence[str]
    ) -> dict[str, torch.Tensor]:
        """What the named modules of a block are given by one batch; computes no further than the last of them.

        Args:
            block: From ``block``, changed or not.
            index: Which block it is.
            hidden: float32 [b, T, D].
            names: Modules, by name in the block; of those that share an input (``groups``), one is enough.

        Returns:
            Name → [b, T, K] (or [b T, K], as the model has it) in the precision ``compute``, as the layer has it.
        """
        found: dict[str, torch.Tensor] = {}

        def note(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
            def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
                found[name] = given[0].to(getattr(torch, self.compute))
                if len(found) == len(names):
                    raise Stop

            return hook

        handles = [block.get_submodule(name).register_forward_pre_hook(note(name)) for name in names]
        try:
            self.forward(block, index, hidden)
        except Stop:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return found

    def advance(self, block: nn.Module, index: int, hidden: torch.Tensor) -> None:
        """All windows through one block, in place: float32 [S, T, D]."""
        for part in self.batches(hidden):
            hidden[part] = self.forward(block, index, hidden[part])

    @torch.no_grad()
    def finish(self, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
        """What follows the last block: final norm, projection, head.

        Args:
            hidden: float32 [S, T, D], after the last block.

        Yields:
            Logits float32 [b, T, V], a batch at a time, in order.
        """
        with self.skeleton.surroundings(head=True):
            for part in self.batches(hidden):
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self.compute == "bfloat16"):
                    logits = self.outside.leave(hidden[part])
                yield logits

    def arguments(self, hidden: torch.Tensor) -> list[Arguments]:
        """What every block is called with beside hidden states [b, T, D]; depends on their shape alone."""
        shape = _shape(hidden)
        if shape not in self._arguments:
            with torch.no_grad(), self.skeleton.surroundings(head=False):
                self._arguments[shape] = self.outside.enter(torch.zeros(shape, dtype=torch.int64))[1]
        return self._arguments[shape]


def _shape(hidden: torch.Tensor) -> tuple[int, int]:
    return hidden.shape[0], hidden.shape[1]
