"""What all grid quantizers share: checks, the split into segments, and choosing codes for given scales.

A segment is the run of weights that shares one scale: a row, or group_size consecutive weights of a row (the last
group of a row may be short).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from dareq_edge.errors import CheckpointError
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec

TINY = float(np.finfo(np.float32).tiny)
"""Smallest normal float32: a smaller scale cannot be divided by, so such a segment counts as all zero."""

_BF16_MAX = float(torch.finfo(torch.bfloat16).max)
_CHUNK = 1 << 22  # weights worked on at a time: bounds scratch memory whatever the matrix

ChooseScales = Callable[[torch.Tensor, int], torch.Tensor]
"""(segments float32 [R, L], q_max) -> scales [R], floating, of either sign; magnitudes below TINY mean "all zero"."""
Round = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(segments float32 [R, L], scales float32 [R, 1]) -> rounded quotients [R, L], floating."""


def round_half_even(w: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Quotients rounded to nearest, ties to even, in float32."""
    return torch.div(w, scale).round_()


def round_half_up(w: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """floor(w / s + 0.5) in float64 (the paper's Eq. 4)."""
    return torch.div(w.double(), scale.double()).add_(0.5).floor_()


def check(weight: torch.Tensor, name: str) -> None:
    """Refuse what cannot be quantized.

    Raises:
        CheckpointError: Not a floating-point matrix, empty, or NaN or infinity inside.
    """
    if weight.ndim != 2 or not weight.is_floating_point() or weight.numel() == 0:
        raise CheckpointError(
            f"{name} is {weight.dtype} {tuple(weight.shape)}; only a floating-point matrix [N, K] can be quantized"
        )
    low, high = torch.aminmax(weight)  # NaN propagates through both
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise CheckpointError(f"{name} holds NaN or infinity; repair the checkpoint or skip this layer")


def stored_scales(scales: torch.Tensor, spec: QuantSpec) -> torch.Tensor:
    """Scales as they are stored: float32, bf16-exact if the spec asks for it, 1 for all-zero segments.

    A negative scale mirrors the grid: code 0 is then the positive end, 2^(bits-1) times the scale's magnitude.

    Args:
        scales: Floating [...], of either sign.
        spec: Names the precision.

    Returns:
        float32 [...], finite, and at least TINY in magnitude.
    """
    out = scales.float()
    if spec.scale_dtype == "bfloat16":
        out = out.clamp(-_BF16_MAX, _BF16_MAX).bfloat16().float()
    return torch.where(out.abs() < TINY, torch.ones_like(out), out)


def quantize(
    weight: torch.Tensor, spec: QuantSpec, name: str, choose: ChooseScales, rounding: Round = round_half_even
) -> QuantizedTensor:
    """Run a scale chooser over all segments of a matrix, then choose codes.

    Args:
        weight: Floating [N, K] on any device.
        spec: Bits, group size, scale precision.
        name: For error messages.
        choose: The method.
        rounding: How quotients become codes.

    Returns:
        The quantized matrix, in host memory.

    Raises:
        CheckpointError: See ``check``.
    """
    check(weight, name)
    n, k = weight.shape
    codes = np.empty((n, k), dtype=np.uint8)
    scales = np.empty((n, spec.groups(k)), dtype=np.float32)
    for rows in row_blocks(n, k):
        block = weight.detach()[rows].float()
        for columns, groups, length in column_blocks(k, spec):
            segments = block[:, columns].reshape(-1, length).contiguous()
            s = stored_scales(choose(segments, spec.zero_point - 1), spec)
            q = _encode(segments, s, spec, rounding)
            codes[rows, columns] = q.reshape(block.shape[0], -1).cpu().numpy()
            scales[rows, groups] = s.reshape(block.shape[0], -1).cpu().numpy()
    return QuantizedTensor(codes, scales, spec)


def encode_rows(weight: torch.Tensor, scales: torch.Tensor, spec: QuantSpec, rounding: Round) -> QuantizedTensor:
    """Choose codes for given scales, per channel.

    Args:
        weight: Floating [N, K] on any device, finite.
        scales: float32 [N], as ``stored_scales`` made them.
        spec: How the matrix is quantized: per channel.
        rounding: How quotients become codes.

    Returns:
        The quantized matrix, in host memory.
    """
    codes = np.empty(tuple(weight.shape), dtype=np.uint8)
    for rows in row_blocks(*codes.shape):
        codes[rows] = _encode(weight.detach()[rows].float(), scales[rows], spec, rounding).cpu().numpy()
    return QuantizedTensor(codes, scales[:, None].cpu().numpy(), spec)


def _encode(segments: torch.Tensor, scales: torch.Tensor, spec: QuantSpec, rounding: Round) -> torch.Tensor:
    """Codes uint8 [R, L] of the nearest representable values."""
    q = rounding(segments, scales[:, None])
    zero = spec.zero_point
    return q.clamp_(-zero, zero - 1).add_(zero).to(torch.uint8)


def row_blocks(n: int, k: int) -> Iterator[slice]:
    """Rows of a matrix [N, K], a bounded number of weights at a time."""
    step = max(1, _CHUNK // k)
    return (slice(i, min(i + step, n)) for i in range(0, n, step))


def column_blocks(k: int, spec: QuantSpec) -> Iterator[tuple[slice, slice, int]]:
    """(columns, groups, segment length): all full groups at once, then the short last group if there is one."""
    size = spec.group_size
    if size is None:
        yield slice(0, k), slice(0, 1), k
        return
    full = k // size
    if full:
        yield slice(0, full * size), slice(0, full), size
    if k % size:
        yield slice(full * size, k), slice(full, full + 1), k % size
