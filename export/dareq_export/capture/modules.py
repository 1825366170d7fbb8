"""Modules that stand in for linears and embeddings during capture and emit the operators we want."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from dareq_edge.embeddings import adopt, beneath
from dareq_edge.kernel_layout import BlockLayout

MICROSOFT = "com.microsoft"
Attribute = int | float | str | bool | Sequence[int] | Sequence[float] | Sequence[str] | Sequence[bool]


class NBitsLinear(nn.Module):
    """Emits com.microsoft::MatMulNBits; weights are untouched memory that is never read.

    Args:
        layout: N, K, bits and block size.
        bias: Whether the operator's bias input is used.
    """

    def __init__(self, layout: BlockLayout, *, bias: bool) -> None:
        super().__init__()
        self.layout = layout
        self.qweight = nn.Buffer(torch.empty(layout.matmul_shape, dtype=torch.uint8))
        self.scales = nn.Buffer(torch.empty(layout.scales_shape))
        self.bias = nn.Buffer(torch.empty(layout.n)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x [..., K] to [..., N]."""
        attrs: dict[str, Attribute] = {"K": self.layout.k, "N": self.layout.n, "bits": self.layout.bits}
        return torch.onnx.ops.symbolic(
            f"{MICROSOFT}::MatMulNBits",
            (x, self.qweight, self.scales, None, None, self.bias),
            attrs | {"block_size": self.layout.block_size, "accuracy_level": 4},
            dtype=torch.float32,
            shape=(*x.shape[:-1], self.layout.n),
            version=1,
        )


class FloatLinear(nn.Module):
    """Emits Gemm(transB=1), so that the file holds the checkpoint's own [N, K] bytes, sharable with a table."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight)
        self.bias = None if bias is None else nn.Buffer(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x [..., K] to [..., N]."""
        n, k = self.weight.shape
        inputs = (x.reshape(-1, k), self.weight) + (() if self.bias is None else (self.bias,))
        rows = inputs[0].shape[0]
        flat = torch.onnx.ops.symbolic("::Gemm", inputs, {"transB": 1}, dtype=torch.float32, shape=(rows, n))
        return flat.reshape(*x.shape[:-1], n)


class GatherTable(nn.Module):
    """Emits com.microsoft::GatherBlockQuantized over a [V, D] table of 4- or 8-bit codes.

    Args:
        layout: V, D, bits and block size.
        scale: What the rows are multiplied by; ``None`` leaves them as they are.
    """

    def __init__(self, layout: BlockLayout, scale: float | None = None) -> None:
        nn.Module.__init__(self)  # of several bases, the others make no weight
        self.layout, self.scale = layout, scale
        self.qweight = nn.Buffer(torch.empty(layout.gather_shape, dtype=torch.uint8))
        self.scales = nn.Buffer(torch.empty(layout.scales_shape))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Map ids [...] to scaled rows [..., D]."""
        attrs: dict[str, Attribute] = {"gather_axis": 0, "quantize_axis": 1, "bits": self.layout.bits}
        rows = torch.onnx.ops.symbolic(
            f"{MICROSOFT}::GatherBlockQuantized",
            (self.qweight, ids, self.scales),
            attrs | {"block_size": self.layout.block_size},
            dtype=torch.float32,
            shape=(*ids.shape, self.layout.padded_k),
            version=1,
        )
        rows = rows if self.layout.padded_k == self.layout.k else rows[..., : self.layout.k]
        return rows if self.scale is None else rows * self.scale


class GatherLookup(GatherTable, nn.Embedding):
    """GatherTable under an embedding's own ``forward``: it emits what that class computes around the lookup too."""

    @classmethod
    def under(cls, old: nn.Embedding, layout: BlockLayout) -> GatherLookup:
        """Replace ``old``, which ``dareq_edge.embeddings.check_lookup`` accepts."""
        made = beneath(type(old), cls)
        new = made.__new__(made)
        GatherTable.__init__(new, layout)
        adopt(new, old)
        return new

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """No table, but what is asked for its device and dtype."""
        return self.scales
