"""QuantizedTensor → the bytes of the standard's DequantizeLinear over [K, N], and back.

    Wt [K, N] = codes - zero point, transposed; one scale per column [N], or per ``group_size`` rows of it [G, N]

        K=2, N=3, int4    1 -2  3        two's complement, in order of rows, low nibble first
                          4  5 -8        nibbles 1 e 3 4 5 8  →  bytes e1 43 85

Operator definitions: ONNX Operators.md, "DequantizeLinear" (21); the packing of int4: ONNX IR.md, "Packed types".
onnxruntime's CPU provider turns DequantizeLinear and the MatMul after it into MatMulNBits when it loads them, but in
this orientation only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dareq_edge.packing import pack, unpack
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """Shape of one quantized matrix, or of several side by side, in the standard form.

    Attributes:
        n: N, output channels (columns).
        k: K, input channels (rows); there is no padding.
        bits: 4 or 8, the container of the codes (2 and 3 bits travel in 4, 5 to 7 in 8).
        group_size: Input channels that share a scale; ``None`` is one scale per column.
    """

    n: int
    k: int
    bits: int
    group_size: int | None

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of DequantizeLinear's x: (K, N)."""
        return self.k, self.n

    @property
    def lookup_shape(self) -> tuple[int, int]:
        """Shape of the bytes a lookup reads: (K, N * bits / 8), every row beginning on a byte."""
        return self.k, -(-self.n * self.bits // 8)

    @property
    def scales_shape(self) -> tuple[int, ...]:
        """Shape of the scales: (N,) or (G, N)."""
        return (self.n,) if self.group_size is None else (-(-self.k // self.group_size), self.n)


def column_layout(shape: tuple[int, int], spec: QuantSpec) -> ColumnLayout:
    """The layout of a matrix [N, K] with this spec; groups longer than K are one scale per column."""
    n, k = shape
    grouped = spec.group_size is not None and spec.group_size < k
    return ColumnLayout(n, k, 4 if spec.bits <= 4 else 8, spec.group_size if grouped else None)


def beside(layouts: Sequence[ColumnLayout]) -> ColumnLayout:
    """The layout of matrices that read one input, column beside column; all have one K and one container."""
    groups = [x.group_size for x in layouts if x.group_size is not None]
    return ColumnLayout(sum(x.n for x in layouts), layouts[0].k, layouts[0].bits, min(groups, default=None))


def pack_columns(
    tensors: Sequence[QuantizedTensor], layout: ColumnLayout, *, lookup: bool = False
) -> NDArray[np.uint8]:
    """The codes of matrices side by side.

    Args:
        tensors: Matrices [N_i, K], in order; their N_i add up to the layout's.
        layout: Of all of them.
        lookup: Begin every row on a byte, which makes a difference where N is odd and bits are 4.

    Returns:
        uint8, the bytes of int4 or int8 [K, N]; of the lookup's shape if ``lookup``.
    """
    mask = np.uint8((1 << layout.bits) - 1)
    rows = [(t.codes - np.uint8(t.spec.zero_point)) & mask for t in tensors]  # wraps around: two's complement
    columns = np.ascontiguousarray(np.concatenate(rows).T)
    if lookup:
        return pack(columns, layout.bits)
    return pack(columns.reshape(1, -1), layout.bits).reshape(-1)


def unpack_columns(packed: NDArray[np.uint8], layout: ColumnLayout) -> NDArray[np.int8]:
    """The inverse of ``pack_columns`` without ``lookup``.

    Args:
        packed: uint8, ceil(K * N * bits / 8) bytes.
        layout: Their layout.

    Returns:
        int8 [N, K], codes less their zero point.
    """
    flat = unpack(packed.reshape(1, -1), layout.bits, layout.k * layout.n)
    half = np.uint8(1 << (layout.bits - 1))
    signed = ((flat ^ half) - half).view(np.int8)  # extends the sign
    return np.ascontiguousarray(signed.reshape(layout.shape).T)


def column_scales(tensors: Sequence[QuantizedTensor], layout: ColumnLayout) -> NDArray[np.float32]:
    """The scales of matrices side by side; a scale per column is repeated where others have groups.

    Args:
        tensors: As for ``pack_columns``.
        layout: Of all of them.

    Returns:
        float32 of the layout's ``scales_shape``.
    """
    if layout.group_size is None:
        return np.concatenate([t.scales[:, 0] for t in tensors])
    groups = layout.scales_shape[0]
    return np.ascontiguousarray(np.concatenate([_repeated(t, groups, layout) for t in tensors]).T)


def _repeated(tensor: QuantizedTensor, groups: int, layout: ColumnLayout) -> NDArray[np.float32]:
    """[N, G] scales of a tensor whose own groups are whole multiples of the layout's."""
    own = tensor.spec.group_size or layout.k
    assert layout.group_size is not None
    return tensor.scales[:, np.arange(groups) * layout.group_size // own]
