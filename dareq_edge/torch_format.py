"""The number format in torch: the same arithmetic as ``QuantizedTensor.dequantize``, on any device."""

from __future__ import annotations

import torch

from dareq_edge.spec import QuantSpec


def unpack(qweight: torch.Tensor, bits: int, k: int) -> torch.Tensor:
    """Inverse of ``dareq_edge.packing.pack``.

    Args:
        qweight: uint8 [N, ceil(K*bits/8)].
        bits: 2 to 8.
        k: Codes per row.

    Returns:
        uint8 [N, K].
    """
    mask = (1 << bits) - 1
    if 8 % bits == 0:
        parts = [(qweight >> shift) & mask for shift in range(0, 8, bits)]
        return torch.stack(parts, dim=2).flatten(1)[:, :k]
    bit = torch.arange(k, device=qweight.device) * bits
    low = bit // 8
    high = (low + 1).clamp_(max=qweight.shape[1] - 1)  # where a code ends in its first byte, the second is masked off
    pairs = qweight[:, low].to(torch.int16) | (qweight[:, high].to(torch.int16) << 8)
    # The sign bit of int16 only reaches bits above the mask: a shift of at most 7 keeps bits + shift <= 15.
    return ((pairs >> (bit % 8).to(torch.int16)) & mask).to(torch.uint8)


def dequantize(
    qweight: torch.Tensor, scales: torch.Tensor, k: int, spec: QuantSpec, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The weight in a floating dtype: computed in float32, rounded once.

    Args:
        qweight: uint8 [N, ceil(K*bits/8)].
        scales: float32 [N, G].
        k: K, the number of input channels.
        spec: Bits and group size.
        dtype: Of the result.

    Returns:
        ``dtype`` [N, K]; for float32 bit-equal to ``QuantizedTensor.dequantize``.
    """
    values = unpack(qweight, spec.bits, k).to(torch.float32)
    values -= spec.zero_point
    size = spec.group_size
    values *= scales if size is None else scales.repeat_interleave(size, dim=1)[:, :k]
    return values.to(dtype)
