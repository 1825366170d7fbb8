"""QuantizedTensor → the bytes of com.microsoft::MatMulNBits and GatherBlockQuantized."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dareq_edge.kernel_layout import BlockLayout
from dareq_edge.packing import pack
from dareq_edge.qtensor import QuantizedTensor


def lower(tensor: QuantizedTensor, layout: BlockLayout) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Codes and scales in kernel form.

    A row scale is repeated once per block; codes are re-centred on the container's zero point 2^(bits-1) (which the
    kernels assume when no zero points are given), and padding is that zero point, i.e. weight 0.

    Args:
        tensor: The quantized matrix [N, K].
        layout: From ``choose_layout``.

    Returns:
        (uint8 [N, k_blocks, blob], float32 [N, k_blocks]).
    """
    zero = 1 << (layout.bits - 1)
    shift = np.uint8(zero - tensor.spec.zero_point)
    padding = layout.padded_k - layout.k
    codes = np.pad(tensor.codes + shift, ((0, 0), (0, padding)), constant_values=zero)
    scales = np.broadcast_to(tensor.scales, layout.scales_shape)
    return pack(codes, layout.bits).reshape(layout.matmul_shape), np.ascontiguousarray(scales)
