"""Quantizer plug-ins: one file each, found by file name (``dareq_edge.plugins``).

A plug-in module defines ``QUANTIZER``, a frozen dataclass of the method's hyper-parameters whose instances are
called as ``quantizer(weight, spec, name)``. It chooses scales and codes and nothing else: no packing, no files, no
names. All plug-ins share the same answers to awkward input (see ``_grid``): NaN and infinity are an error that
names the tensor, an all-zero row (or group) gets scale 1 and zero codes. A method that exists in some forms only has,
beside ``QUANTIZER``, ``takes(spec) -> bool`` and ``FORMS``, a few words that say which.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol, cast

import torch

from dareq_edge.errors import SpecError
from dareq_edge.plugins import available, load
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec


class Quantizer(Protocol):
    """What every plug-in's ``QUANTIZER`` instances do."""

    def __call__(self, weight: torch.Tensor, spec: QuantSpec, name: str = "weight") -> QuantizedTensor:
        """Quantize one matrix.

        Args:
            weight: Floating point [N, K] on any device; not changed.
            spec: Bits, group size and scale precision.
            name: The tensor's name, for error messages.

        Returns:
            Codes uint8 [N, K] and scales float32 [N, G], in host memory.

        Raises:
            CheckpointError: The weight is not a floating-point matrix, or holds NaN or infinity.
            SpecError: The method does not exist in this form, see ``takes``.
        """
        ...


def names() -> list[str]:
    """Names of all quantizers, without importing them."""
    return available(__name__)


def takes(method: str, spec: QuantSpec) -> bool:
    """Whether a method exists in a form.

    Raises:
        SpecError: No such method.
    """
    rule = getattr(load(__name__, method), "takes", None)
    return rule is None or bool(rule(spec))


def check_form(method: str, spec: QuantSpec, name: str = "") -> None:
    """Refuse a form that a method does not exist in.

    Args:
        method: Plug-in name.
        spec: The form.
        name: What is to be quantized, for the message.

    Raises:
        SpecError: It does not, or there is no such method.
    """
    if not takes(method, spec):
        forms = load(__name__, method).FORMS
        raise SpecError(f"{name and f'{name}: '}{method} has {forms}, not {spec.bits} bits, {spec.scheme}; use those")


def build(method: str, parameters: Mapping[str, object] | None = None) -> Quantizer:
    """Make a quantizer from its name and a set of hyper-parameters.

    Args:
        method: Plug-in name, e.g. "dareq".
        parameters: Hyper-parameters by name; those the method does not have are left aside, so that one
            configuration can serve several methods. Types are checked by the method.

    Raises:
        SpecError: No such method, or a hyper-parameter's value cannot work.

    Example:
        >>> quantizer = build("rtn")
        >>> tensor = quantizer(torch.tensor([[-0.7, 0.1, 0.32]]), QuantSpec(bits=4))
        >>> tensor.codes, tensor.scales.round(3)
        (array([[ 1,  9, 11]], dtype=uint8), array([[0.1]], dtype=float32))
    """
    factory = load(__name__, method).QUANTIZER
    known = {f.name for f in dataclasses.fields(factory)}
    try:
        return cast("Quantizer", factory(**{k: v for k, v in (parameters or {}).items() if k in known}))
    except TypeError as error:
        raise SpecError(f"quantizer {method!r} got a hyper-parameter of the wrong type ({error})") from error
