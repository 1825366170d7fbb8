"""Shape and size of a quantized matrix in the operators MatMulNBits and GatherBlockQuantized. Standard library only.

Here and in ``dareq_export`` alone a group of input channels is called a block, as the operators call it. Definitions:
onnxruntime ContribOperators.md (1.32), "com.microsoft.MatMulNBits" and "com.microsoft.GatherBlockQuantized".
"""

from __future__ import annotations

from dataclasses import dataclass

from dareq_edge.spec import QuantSpec

LINE = 64
"""Bytes: parameters start on multiples of it in the data file. Vector loads want that; onnxruntime maps a file from
the page below any offset."""

BLOCK_SIZES = (256, 128, 64, 32)  # larger blocks give zeros or NaN without an error before onnxruntime 1.30
SMALLEST = 16  # legal, but slower and never used by ARM's KleidiAI: only where nothing else fits


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Shape of one quantized matrix as the kernels want it.

    Attributes:
        n: N, output channels (rows).
        k: K, input channels.
        bits: 4 or 8, the container of the codes (2 and 3 bits travel in 4, 5 to 7 in 8).
        block_size: Input channels per scale in the graph.
    """

    n: int
    k: int
    bits: int
    block_size: int

    @property
    def k_blocks(self) -> int:
        """Blocks per row, ceil(K / block_size)."""
        return -(-self.k // self.block_size)

    @property
    def padded_k(self) -> int:
        """K with the last block filled up."""
        return self.k_blocks * self.block_size

    @property
    def blob(self) -> int:
        """Bytes per block."""
        return self.block_size * self.bits // 8

    @property
    def matmul_shape(self) -> tuple[int, int, int]:
        """Shape of MatMulNBits' input B: (N, k_blocks, blob)."""
        return self.n, self.k_blocks, self.blob

    @property
    def gather_shape(self) -> tuple[int, int]:
        """Shape of GatherBlockQuantized's data over the same bytes: (N, padded K * bits / 8)."""
        return self.n, self.k_blocks * self.blob

    @property
    def scales_shape(self) -> tuple[int, int]:
        """Shape of the scales of either operator: (N, k_blocks)."""
        return self.n, self.k_blocks

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales in the file."""
        return self.n * self.k_blocks * (self.blob + 4)


def choose_layout(shape: tuple[int, int], spec: QuantSpec) -> BlockLayout:
    """The layout of a matrix [N, K] with this spec.

    Per channel, the block is the largest that divides K; when none divides it, the one that costs the fewest bytes
    with its padding.
    """
    n, k = shape
    bits = 4 if spec.bits <= 4 else 8
    if spec.group_size is not None:
        return BlockLayout(n, k, bits, spec.group_size)
    exact = [size for size in BLOCK_SIZES if k % size == 0]
    options = [BlockLayout(n, k, bits, size) for size in exact[:1] or (*BLOCK_SIZES, SMALLEST)]
    return min(options, key=lambda o: (o.nbytes, -o.block_size))
