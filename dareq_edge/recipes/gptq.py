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

from dareq_edge.blockwise.gather import Stream, gather
from dareq_edge.blockwise.groups import input_groups
from dareq_edge.blockwise.journal import Journal, State, digest, sweep
from dareq_edge.blockwise.walk import Compute, Decoder
from dareq_edge.matrix import matrix_of
from dareq_edge.progress import Progress
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Change, Source, _checks
from dareq_edge.recipes._calibrated import Calibrated
from dareq_edge.recipes._outside import outside_changes
from dareq_edge.rounding.codes import to_quantized
from dareq_edge.rounding.feedback import feedback
from dareq_edge.rounding.scales import published_scales
from dareq_edge.spec import QuantSpec

Scale = Literal["absmax", "mse"]
"""absmax over half the range, or the published search for the least error to the power 2.4."""


@dataclass(frozen=True, slots=True)
class Gptq(Calibrated):
    """See the module; ``Calibrated`` has the settings for the text.

    Attributes:
        scale: See ``Scale``.
        act_order: Round the columns with the largest inputs first.
        damping: Fraction of the mean diagonal added to the second moment.
        true_sequential: Layers of a block see the quantized layers before them in the block, not only before it.
        compute: Precision of the blocks' matrix products.

    Raises:
        SpecError: A value cannot work.
    """

    scale: Scale = "absmax"
    act_order: bool = True
    damping: float = 0.01
    true_sequential: bool = True
    compute: Compute = "float32"

    def __post_init__(self) -> None:
        Calibrated.__post_init__(self)
        _checks.number(self, "damping", most=1)
        _checks.choice(self, "scale", get_args(Scale))
        _checks.choice(self, "compute", get_args(Compute))
        _checks.flag(self, "act_order", "true_sequential")

    @property
    def label(self) -> str:
        """See ``Recipe``."""
        return "gptq"

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        """See ``Recipe``."""
        ids = self.windows(source)
        decoder = Decoder.open(source, compute=self.compute)
        yield from outside_changes(source, decoder)

        def step(index: int, state: State) -> list[Change]:
            block = decoder.block(index)
            found = self._quantize_block(decoder, block, index, state["hidden"])
            decoder.advance(block, index, state["hidden"])
            return found

        journal = Journal(source.work, digest(source, self, {"ids": ids}))
        yield from sweep(decoder.count, journal, lambda: {"hidden": decoder.embed(ids)}, step, progress)

    def _quantize_block(self, decoder: Decoder, block: nn.Module, index: int, hidden: torch.Tensor) -> list[Change]:
        """Quantize the layers of one block in place; hidden states before it float32 [S, T, D], not changed."""
        groups = input_groups(decoder, block, index)
        stages = [[group] for group in groups] if self.true_sequential else [groups] if groups else []
        found: list[Change] = []
        for stage in stages:
            moments = gather(decoder, index, Stream(block, hidden), [group[0] for group in stage])
            for group in stage:
                second = moments[group[0]].second
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


RECIPE = Gptq
