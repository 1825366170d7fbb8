"""QuantLookup: a quantized table under an embedding's own ``forward``, for position tables."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dareq_edge.embeddings import adopt, beneath
from dareq_edge.nn import QuantMatrix, empty_packed, packed_like
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec


class QuantLookup(QuantMatrix, nn.Embedding):  # type: ignore[override]  # weight is a property here
    """Table that gathers packed rows and dequantizes only those; what becomes of them is the model's class's matter.

    Instances are made of the embedding they replace, and are instances of its class too: of a class that has both.
    Pickles name that class and need no more than its module to load.
    """

    @classmethod
    def from_quantized(cls, tensor: QuantizedTensor, old: nn.Embedding) -> QuantLookup:
        """Replace ``old``, on its weight's device and in its dtype, by a table that is quantized already."""
        return cls._make(old, *packed_like(tensor, old.weight))

    @classmethod
    def empty(cls, spec: QuantSpec, old: nn.Embedding) -> QuantLookup:
        """Replace ``old`` by a table with uninitialized codes and scales, to load a state dict into."""
        (n, k), weight = old.weight.shape, old.weight
        return cls._make(old, *empty_packed(n, k, spec, weight.device), k, spec, weight.dtype)

    @classmethod
    def _make(
        cls,
        old: nn.Embedding,
        qweight: torch.Tensor,
        scales: torch.Tensor,
        k: int,
        spec: QuantSpec,
        dtype: torch.dtype,
    ) -> QuantLookup:
        new = _blank(type(old))
        QuantMatrix.__init__(new, qweight, scales, k, spec, dtype)
        adopt(new, old)
        return new

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows of the table.

        Args:
            ids: Integer [...], each in [0, N).

        Returns:
            ``self.dtype`` [..., K].
        """
        return self.rows(ids)

    def __reduce__(self) -> tuple[Any, ...]:
        """The made class cannot be imported: copies and pickles make it again of the model's own."""
        kind = nn.Embedding if type(self) is QuantLookup else type(self).__bases__[0]
        return _blank, (kind,), vars(self)


def _blank(kind: type[nn.Embedding]) -> QuantLookup:
    made = beneath(kind, QuantLookup)
    return made.__new__(made)
