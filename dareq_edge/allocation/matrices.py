"""Matrix: name, shape and decoder block of one weight matrix."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matrix:
    """One weight matrix [N, K].

    Attributes:
        name: Module name as in a plan, e.g. "model.layers.0.mlp.up_proj".
        rows: N, output channels, or tokens of a table.
        columns: K, input channels, or features of a table.
        block: Index of the decoder block; ``None`` for tables, the head, and projections outside.
    """

    name: str
    rows: int
    columns: int
    block: int | None

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.rows * self.columns
