"""Published methods that our storage format cannot hold, for comparison only: they return the dequantized weight.

One file each, found by file name (``dareq_edge.plugins``). A plug-in module defines ``DEQUANTIZER``, a frozen
dataclass of the method's hyper-parameters. Nothing here can be exported; what a checkpoint may hold is in
``dareq_edge.quantizers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast

import torch

from dareq_edge.errors import SpecError
from dareq_edge.plugins import available, load
from dareq_edge.spec import QuantSpec


class Dequantizer(Protocol):
    """What every plug-in's ``DEQUANTIZER`` instances do."""

    def __call__(self, weight: torch.Tensor, spec: QuantSpec, name: str = "weight") -> torch.Tensor:
        """Quantize and dequantize one matrix.

        Args:
            weight: Floating point [N, K] on any device; not changed.
            spec: Bits and group size; the method's own form decides how scales are stored.
            name: The tensor's name, for error messages.

        Returns:
            float32 [N, K] on the weight's device.

        Raises:
            CheckpointError: The weight is not a floating-point matrix, or holds NaN or infinity.
            SpecError: The method does not exist in this form.
        """
        ...

    def bits_per_weight(self, k: int, spec: QuantSpec) -> float:
        """Bits stored per weight of a row of ``k`` input channels: codes as the method packs them, scales, zeros.

        Raises:
            SpecError: The method does not exist in this form.
        """
        ...


def names() -> list[str]:
    """Names of all dequantizers, without importing them."""
    return available(__name__)


def build(method: str, parameters: Mapping[str, object] | None = None) -> Dequantizer:
    """Make a dequantizer from its name and its hyper-parameters.

    Args:
        method: Plug-in name, e.g. "hqq".
        parameters: Hyper-parameters by name; values are checked by the method.

    Raises:
        SpecError: No such method or hyper-parameter, or a value cannot work.
    """
    factory = load(__name__, method).DEQUANTIZER
    try:
        return cast("Dequantizer", factory(**(parameters or {})))
    except TypeError as error:
        raise SpecError(f"{method!r} got a hyper-parameter that it does not have or cannot use ({error})") from error


def refuse_scale_dtype(method: str, spec: QuantSpec) -> None:
    """Raise SpecError if the spec asks for bf16 scales, which no method here has."""
    if spec.scale_dtype != "float32":
        raise SpecError(f"{method} stores its scales in its own published form; use scale_dtype 'float32'")
