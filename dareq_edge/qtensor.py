"""QuantizedTensor: codes, scales and spec of one matrix; ``dequantize`` is the definition of the format."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import CheckpointError
from dareq_edge.packing import pack, packed_width, unpack
from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """A quantized weight matrix, w[n, k] = scales[n, k // group_size] * (codes[n, k] - 2^(bits-1)).

    Attributes:
        codes: uint8 [N, K], values in [0, 2^bits).
        scales: float32 [N, G], of either sign; G is 1 per channel, else ceil(K / group_size).
        spec: Bits, group size and method.

    Raises:
        CheckpointError: Shapes or dtypes do not fit together.

    Example:
        >>> codes, scales = np.array([[0, 8, 15]], np.uint8), np.array([[0.5]], np.float32)
        >>> tensor = QuantizedTensor(codes, scales, QuantSpec(4))
        >>> tensor.dequantize()
        array([[-4. ,  0. ,  3.5]], dtype=float32)
        >>> tensor.packed().tobytes().hex()
        '800f'
    """

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    spec: QuantSpec

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.dtype != np.uint8:
            raise CheckpointError(f"codes are {self.codes.dtype} {self.codes.shape}; expected uint8 [N, K]")
        n, k = self.codes.shape
        want = (n, self.spec.groups(k))
        if self.scales.shape != want or self.scales.dtype != np.float32:
            raise CheckpointError(f"scales are {self.scales.dtype} {self.scales.shape}; expected float32 {want}")

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.codes.shape[0], self.codes.shape[1]

    def dequantize(self) -> NDArray[np.float32]:
        """The weight this tensor stands for.

        Returns:
            float32 [N, K].
        """
        k = self.codes.shape[1]
        values = self.codes.astype(np.float32)
        values -= np.float32(self.spec.zero_point)
        size = self.spec.group_size
        values *= self.scales if size is None else np.repeat(self.scales, size, axis=1)[:, :k]
        return values

    def packed(self) -> NDArray[np.uint8]:
        """qweight, the packed codes: uint8 [N, ceil(K*bits/8)]."""
        return pack(self.codes, self.spec.bits)

    @classmethod
    def from_packed(
        cls, qweight: NDArray[np.uint8], scales: NDArray[np.float32], k: int, spec: QuantSpec
    ) -> QuantizedTensor:
        """Inverse of ``packed``.

        Args:
            qweight: uint8 [N, ceil(K*bits/8)].
            scales: float32 [N, G].
            k: K, the number of input channels.
            spec: How the tensor was quantized.

        Raises:
            CheckpointError: The packed width does not fit K.
        """
        if qweight.ndim != 2 or qweight.shape[1] != packed_width(k, spec.bits):
            want = packed_width(k, spec.bits)
            raise CheckpointError(f"qweight is {qweight.shape}; expected [N, {want}] for K={k}, {spec.bits} bits")
        return cls(unpack(qweight, spec.bits, k), scales, spec)
