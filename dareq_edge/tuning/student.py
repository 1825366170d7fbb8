"""Student: the quantized model, its codes in one byte each, and the numbers of it that can be tuned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from dareq_edge.blockwise.walk import Decoder
from dareq_edge.matrix import LINEARS
from dareq_edge.plan import output_head
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Change
from dareq_edge.tuning.coded import CodedLinear
from dareq_edge.tuning.numbers import Gains, Number, Vector


@dataclass(frozen=True, slots=True, eq=False)
class Student:
    """See the module; made by ``opened``.

    Attributes:
        decoder: The walk; everything outside the blocks has its weights.
        blocks: Every block, its planned layers as ``CodedLinear``.
        inside: Numbers of every block.
        outside: Those of what follows the blocks; the model has them only ``as_student``.
    """

    decoder: Decoder
    blocks: Sequence[nn.Module]
    inside: Sequence[Sequence[Number]]
    outside: Sequence[Vector]

    @property
    def numbers(self) -> list[Number]:
        """All of them, in a fixed order."""
        return [*(number for block in self.inside for number in block), *self.outside]

    @contextmanager
    def as_student(self) -> Iterator[None]:
        """Inside, what follows the blocks computes with the student's numbers; otherwise with the teacher's."""
        before = [number.module._parameters[number.leaf] for number in self.outside]
        for number in self.outside:
            number.module._parameters[number.leaf] = number.parameter
        try:
            yield
        finally:
            for number, old in zip(self.outside, before, strict=True):
                number.module._parameters[number.leaf] = old


@contextmanager
def opened(decoder: Decoder, quantized: Sequence[Sequence[Change]]) -> Iterator[Student]:
    """A student, and inside the weights of everything that is not a block.

    Memory: a byte per code, all else of the blocks in the compute precision, token table and head in float32.

    Args:
        decoder: The walk.
        quantized: What changed in every block.

    Raises:
        CheckpointError: A weight file can no longer be read.
    """
    with decoder.skeleton.surroundings(head=True):
        blocks, inside = [], []
        for index, changes in enumerate(quantized):
            block, numbers = _block(decoder, index, dict(changes))
            blocks.append(block)
            inside.append(numbers)
        if decoder.compute == "bfloat16":
            _shorten(output_head(decoder.skeleton.model))
        yield Student(decoder, blocks, inside, _outside(decoder))


def _block(
    decoder: Decoder, index: int, changes: dict[str, torch.Tensor | QuantizedTensor]
) -> tuple[nn.Module, list[Number]]:
    """A block as it is after its changes, and its numbers."""
    block, prefix = decoder.block(index), f"{decoder.path(index)}."
    found: list[Number] = []
    for name, module in list(block.named_modules()):
        value = changes.get(f"{prefix}{name}.weight")
        if isinstance(value, QuantizedTensor):
            coded = CodedLinear(value, module._parameters.get("bias"))
            parent, _, leaf = name.rpartition(".")
            setattr(block.get_submodule(parent), leaf, coded)
            found.append(Gains(f"{prefix}{name}.weight", coded, value))
    names = decoder.skeleton.source.names
    for name, module in block.named_modules():
        for leaf, parameter in list(module._parameters.items()):
            target = f"{prefix}{name}.{leaf}" if name else f"{prefix}{leaf}"
            if parameter is None or target not in names:
                continue
            given = changes.get(target)
            dtype = decoder.skeleton.source.tensor(target).dtype
            if isinstance(given, torch.Tensor):
                parameter.data, dtype = given.float().clone(), given.dtype
            if _tuned(parameter):
                found.append(Vector.take(target, module, leaf, dtype))
        if decoder.compute == "bfloat16" and isinstance(module, LINEARS):
            _shorten(module)
    return block, found


def _outside(decoder: Decoder) -> list[Vector]:
    """Numbers outside the blocks, the model's own parameters left in their places."""
    model, source, found = decoder.skeleton.model, decoder.skeleton.source, []
    for name, module in model.named_modules():
        if f"{name}.".startswith(f"{decoder.skeleton.path}."):
            continue
        for leaf, old in list(module._parameters.items()):
            target = f"{name}.{leaf}"
            if old is not None and target in source.names and _tuned(old):
                found.append(Vector.take(target, module, leaf, source.tensor(target).dtype))
                module._parameters[leaf] = old
    return found


def _tuned(parameter: nn.Parameter) -> bool:
    return parameter.ndim == 1 and parameter.is_floating_point()


def _shorten(module: nn.Module | None) -> None:
    """Keep a weight as autocast would make it, so that it is not made again for every product."""
    weight = None if module is None else module._parameters.get("weight")
    if module is not None and weight is not None:
        module._parameters["weight"] = nn.Parameter(weight.detach().bfloat16(), requires_grad=False)
