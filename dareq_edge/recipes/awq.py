"""AWQ as published, with calibration text given by the user; symmetric storage.

Lin et al. 2023 (arXiv 2306.00978), mit-han-lab/llm-awq@02c1dd6 ``awq/quantize/pre_quant.py``: layer by layer, on the
float model's activations, input channels with large inputs are scaled up before rounding, by factors that are folded
into what comes before (``dareq_edge.folds``); then weights are clipped, not those of q and k; then all are rounded to
nearest. Different here: the grid is symmetric (the published one has zero points), 48 windows of 512 tokens of the
user's text instead of 128 of the Pile, errors of single layers come from second moments over all tokens, and factors
after GELU, which would need an operation of their own, are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

import torch

from dareq_edge.blockwise.blocks import Skeleton
from dareq_edge.blockwise.groups import input_groups
from dareq_edge.blockwise.journal import Journal, State, digest, sweep
from dareq_edge.blockwise.walk import Compute, Decoder
from dareq_edge.folds import apply_fold, folds
from dareq_edge.progress import Progress
from dareq_edge.quantizers._grid import check
from dareq_edge.recipes import Change, Source, _checks
from dareq_edge.recipes._awq_block import Inputs, Layer, clip, observe, rtn, search_factors
from dareq_edge.recipes._calibrated import Calibrated
from dareq_edge.recipes._outside import outside_changes
from dareq_edge.rounding.codes import to_quantized


@dataclass(frozen=True, slots=True)
class Awq(Calibrated):
    """See the module; ``Calibrated`` has the settings for the text.

    Attributes:
        scale: Search factors per input channel.
        clip: Search how far to clip.
        compute: Precision of the blocks' matrix products.

    Raises:
        SpecError: A value cannot work.
    """

    scale: bool = True
    clip: bool = True
    compute: Compute = "float32"

    def __post_init__(self) -> None:
        Calibrated.__post_init__(self)
        _checks.flag(self, "scale", "clip")
        _checks.choice(self, "compute", get_args(Compute))

    @property
    def label(self) -> str:
        """See ``Recipe``."""
        return "awq"

    def check(self, source: Source) -> None:
        """See ``Recipe``: reads and encodes the whole text, and looks the architecture up."""
        Calibrated.check(self, source)
        folds(source.checkpoint.config, Skeleton.open(source).layers[0])

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        """See ``Recipe``."""
        ids = self.windows(source)
        decoder = Decoder.open(source, compute=self.compute)
        yield from outside_changes(source, decoder)
        journal = Journal(source.work, digest(source, self, {"ids": ids}))

        def step(index: int, state: State) -> list[Change]:
            return self._quantize_block(source, decoder, index, state["hidden"])

        yield from sweep(decoder.count, journal, lambda: {"hidden": decoder.embed(ids)}, step, progress)

    @torch.no_grad()
    def _quantize_block(self, source: Source, decoder: Decoder, index: int, hidden: torch.Tensor) -> list[Change]:
        """One decoder layer; hidden states float32 [S, T, D] are brought to the next, through the float layer."""
        block, path = decoder.block(index), decoder.path(index)
        groups = input_groups(decoder, block, index)
        specs = {n: replace(source.plan[f"{path}.{n}"], method=self.label) for group in groups for n in group}
        layer = Layer(decoder, index, block, hidden, specs)
        for name in specs:
            check(layer.weight(name), f"{path}.{name}.weight")
        seen = observe(layer, [group[0] for group in groups])
        inputs = {name: seen[group[0]] for group in groups for name in group}
        chosen = []
        for fold in folds(source.checkpoint.config, block) if self.scale else []:
            leader = next((name for name in fold.after if name in specs), None)
            if leader is not None:  # as published: every search starts from the layer as it was
                chosen.append((fold, search_factors(layer, fold, inputs[leader])))
        decoder.advance(block, index, hidden)
        changed: set[str] = set()
        for fold, t in chosen:
            changed.update(apply_fold(block, fold, t))
            for name in set(fold.after) & set(specs):
                inputs[name] = Inputs(inputs[name].second / torch.outer(t, t), inputs[name].size / t)
        found = self._rounded(layer, inputs)
        done = {f"{name}.weight" for name in specs}
        for name in sorted(changed - done):
            target = f"{path}.{name}"
            found.append((target, block.get_parameter(name).detach().to(source.tensor(target).dtype)))
        return found

    def _rounded(self, layer: Layer, inputs: dict[str, Inputs]) -> list[Change]:
        """The planned weights, clipped and rounded."""
        found: list[Change] = []
        for name, spec in layer.specs.items():
            weight = layer.weight(name)
            if self.clip and not any(part in name for part in ("q_", "k_")):  # as published
                weight = clip(weight, inputs[name].second, spec)
            target = f"{layer.decoder.path(layer.index)}.{name}.weight"
            found.append((target, to_quantized(*rtn(weight, spec), spec)))
        return found


RECIPE = Awq
