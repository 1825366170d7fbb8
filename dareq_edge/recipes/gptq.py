"""GPTQ as published, with calibration text given by the user; symmetric storage and static groups.

Frantar et al. 2022 (arXiv 2210.17323), IST-DASLab/gptq@2d65066 ``opt.py`` and ``gptq.py``: block by block, each group
of layers that share an input is rounded with error feedback against the second moment of what it is given once all
before it is quantized. Scales are those of the published symmetric quantizer (``quant.py``). Different here: 48
windows of 512 tokens instead of 128 of 2048 (``samples``, ``sample_length``), every row is symmetric even if no
weight of it is negative, and the token table, if it is to be quantized, is rounded to nearest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import nn

from dareq_edge.blockwise.groups import input_groups
from dareq_edge.blockwise.journal import Journal, State, digest, sweep
from dareq_edge.blockwise.moments import Moments
from dareq_edge.blockwise.text import read_tokens, sample_windows
from dareq_edge.blockwise.walk import Compute, Decoder
from dareq_edge.errors import SpecError
from dareq_edge.matrix import matrix_of
from dareq_edge.plan import QuantOptions
from dareq_edge.progress import Progress
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Change, Source
from dareq_edge.rounding.codes import to_quantized
from dareq_edge.rounding.feedback import feedback
from dareq_edge.rounding.scales import published_scales
from dareq_edge.spec import QuantSpec

Scale = Literal["absmax", "mse"]
"""absmax over half the range, or the published search for the least error to the power 2.4."""


@dataclass(frozen=True, slots=True)
class Gptq:
    """See the module.

    Attributes:
        calibration: Text file, or ``.npy`` of token ids; required.
        samples: Windows of calibration text.
        sample_length: Tokens per window; at most the model's context.
        seed: Decides where windows begin.
        scale: See ``Scale``.
        act_order: Round the columns with the largest inputs first.
        damping: Fraction of the mean diagonal added to the second moment.
        true_sequential: Layers of a block see the quantized layers before them in the block, not only before it.
        compute: Precision of the blocks' matrix products.

    Raises:
        SpecError: A value cannot work.
    """

    calibration: str | None = None
    samples: int = 48
    sample_length: int = 512
    seed: int = 0
    scale: Scale = "absmax"
    act_order: bool = True
    damping: float = 0.01
    true_sequential: bool = True
    compute: Compute = "float32"

    def __post_init__(self) -> None:
        for name in ("samples", "sample_length"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise SpecError(f"{name} is {value!r}; use a whole number, 1 or more")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise SpecError(f"seed is {self.seed!r}; use a whole number, 0 or more")
        if not isinstance(self.damping, (int, float)) or not 0 <= self.damping <= 1:
            raise SpecError(f"damping is {self.damping!r}; use a number from 0 to 1")
        for name, allowed in (("scale", get_args(Scale)), ("compute", get_args(Compute))):
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name} is {getattr(self, name)!r}; use one of {', '.join(allowed)}")
        for name in ("act_order", "true_sequential"):
            if not isinstance(getattr(self, name), bool):
                raise SpecError(f"{name} is {getattr(self, name)!r}; use true or false")

    @property
    def label(self) -> str:
        """See ``Recipe``."""
        return "gptq"

    def options(self, chosen: QuantOptions) -> QuantOptions:
        """See ``Recipe``."""
        return replace(chosen, method="rtn")

    def check(self, source: Source) -> None:
        """See ``Recipe``: reads and encodes the whole text."""
        self._windows(source)

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        """See ``Recipe``."""
        ids = self._windows(source)
        decoder = Decoder.open(source, compute=self.compute)
        yield from self._outside(source, decoder)

        def step(index: int, state: State) -> list[Change]:
            block = decoder.block(index)
            found = self._quantize_block(decoder, block, index, state["hidden"])
            decoder.advance(block, index, state["hidden"])
            return found

        journal = Journal(source.work, digest(source, self, {"ids": ids}))
        yield from sweep(decoder.count, journal, lambda: {"hidden": decoder.embed(ids)}, step, progress)

    def _windows(self, source: Source) -> torch.Tensor:
        """Calibration tokens int64 [S, T]."""
        if self.calibration is None:
            raise SpecError(
                f"{self.label} needs calibration text; set calibration to a text file, or use a recipe "
                "that needs none, e.g. dareq"
            )
        length = min(self.sample_length, source.checkpoint.context_length)
        return sample_windows(read_tokens(source, self.calibration), length, self.samples, self.seed)

    def _outside(self, source: Source, decoder: Decoder) -> Iterator[Change]:
        """Token table, head and projections, to nearest."""
        quantizer = source.options.quantizer()
        for module, spec in source.plan.items():
            if not module.startswith(f"{decoder.skeleton.path}."):
                target = f"{module}.weight"
                yield (
                    target,
                    quantizer(matrix_of(source.model.get_submodule(module), source.tensor(target)), spec, module),
                )

    def _quantize_block(self, decoder: Decoder, block: nn.Module, index: int, hidden: torch.Tensor) -> list[Change]:
        """Quantize the layers of one block in place; hidden states before it float32 [S, T, D], not changed."""
        groups = input_groups(decoder, block, index)
        stages = [[group] for group in groups] if self.true_sequential else [groups] if groups else []
        found: list[Change] = []
        for stage in stages:
            for group, moments in zip(stage, _moments(decoder, block, index, hidden, stage), strict=True):
                second = moments.second
                for name in group:
                    path = f"{decoder.path(index)}.{name}"
                    layer = block.get_submodule(name)
                    value = self._quantize(matrix_of(layer), second, decoder.skeleton.source.plan[path], path)
                    matrix_of(layer).copy_(torch.from_numpy(value.dequantize()))
                    found.append((f"{path}.weight", value))
        return found

    def _quantize(self, weight: torch.Tensor, second: torch.Tensor, spec: QuantSpec, name: str) -> QuantizedTensor:
        """One layer: W float32 [N, K], H float32 [K, K]."""
        spec = replace(spec, method=self.label)
        scales = published_scales(weight, spec, search=self.scale == "mse", name=name)
        weight = weight.masked_fill(second.diagonal() == 0, 0)  # as published: nothing is known about dead channels
        q = feedback(weight, second, scales, spec, act_order=self.act_order, damping=self.damping, name=name)
        return to_quantized(q, scales, spec)


def _moments(
    decoder: Decoder, block: nn.Module, index: int, hidden: torch.Tensor, groups: list[list[str]]
) -> list[Moments]:
    """Second moments of what each group is given."""
    leaders = {group[0]: Moments(matrix_of(block.get_submodule(group[0])).shape[1]) for group in groups}
    for part in decoder.batches(hidden):
        for name, x in decoder.inputs(block, index, hidden[part], list(leaders)).items():
            leaders[name].add(x)
    return list(leaders.values())


RECIPE = Gptq
