"""Survey: how many bits every layer takes at any slope, estimated once before anything is quantized.

The float model is walked over a few windows; what each layer's curve needs of its moments is one number and g of its
rows (``rounding.rate``), and entropy is counted on a sample of rows, rounded one by one without feedback.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from dareq_edge.blockwise.gather import Stream, gather
from dareq_edge.blockwise.groups import input_groups
from dareq_edge.blockwise.importance import importances
from dareq_edge.blockwise.outputs import Outputs
from dareq_edge.blockwise.walk import Decoder
from dareq_edge.kept import keep, reading
from dareq_edge.progress import Progress
from dareq_edge.recipes._balance import evened, find_fold, wanted_factors
from dareq_edge.recipes._dareq_block import Parts
from dareq_edge.rounding.feedback import Factor, factorize
from dareq_edge.rounding.rate import entropy, step_sizes, without_feedback

_ROWS = 64  # of each layer whose codes are counted: 36,864 weights where K is 576
_OFFSETS = np.arange(-7.0, 3.5, 0.5)  # log2 of steps against the layer's standard deviation
_DEADZONE = 0.58  # of a step: where a code becomes the next larger one when bits count
_MOST = 127


@dataclass(frozen=True, slots=True, eq=False)
class Survey:
    """Curves of L layers.

    Attributes:
        block: Block of each layer, int64 [L].
        weights: Weights of each layer, int64 [L].
        shift: log2 of the square root of the slope at which a step is as large as the standard deviation, [L].
        rate: Bits per weight at ``_OFFSETS`` from there, float64 [L, M], falling.
    """

    block: torch.Tensor
    weights: torch.Tensor
    shift: torch.Tensor
    rate: torch.Tensor

    def bits(self, slope: float, since: int, until: int | None = None) -> float:
        """Bits of all layers of the blocks from ``since`` to before ``until`` at a slope."""
        last = until if until is not None else int(self.block.max()) + 1
        layers = ((self.block >= since) & (self.block < last)).nonzero()[:, 0].tolist()
        return math.fsum(int(self.weights[layer]) * self.layer_rate(layer, slope) for layer in layers)

    def layer_rate(self, layer: int, slope: float) -> float:
        """Bits per weight of one layer at a slope."""
        at = 0.5 * math.log2(slope) - float(self.shift[layer])
        finer = max(float(_OFFSETS[0]) - at, 0.0)  # below the finest step one bit more halves it
        return float(np.interp(at, _OFFSETS, self.rate[layer].numpy())) + finer


@torch.no_grad()
def survey(
    decoder: Decoder,
    hidden: torch.Tensor,
    parts: Parts,
    outputs: Outputs | None,
    progress: Progress,
    *,
    alone: bool = False,
) -> Survey:
    """Walk the float model.

    Args:
        decoder: The model.
        hidden: What the first block is given, float32 [S, T, D]; changed.
        parts: Dampings, and whether there is feedback.
        outputs: Output moments; ``None`` counts errors relative to each layer's output.
        progress: Called per block.
        alone: Every block is given ``hidden`` itself, not what the block before makes of it.
    """
    rows: list[tuple[int, int, float, list[float]]] = []
    for index in range(decoder.count):
        progress("surveying", index, decoder.count)
        block = decoder.block(index)
        groups = input_groups(decoder, block, index)
        moments = gather(decoder, index, Stream(block, hidden), [group[0] for group in groups])
        for group in groups:
            second = moments.pop(group[0]).second
            name = f"{decoder.path(index)}.{group[0]}"
            factor = factorize(second, damping=parts.damping, name=name) if parts.feedback else None
            factor = factor or without_feedback(second)
            fold = find_fold(decoder, index, block, group) if parts.balance else None
            factors = wanted_factors(factor).float() if fold else torch.ones(len(second))
            found = outputs.load(index) if outputs else None
            for weight, importance in importances(block, group, second, found, parts.row_damping):
                shift, rate = _curve(weight * factors, importance, evened(factor) if fold else factor)
                rows.append((index, weight.numel(), shift, rate))
        if not alone:
            decoder.advance(block, index, hidden)
    progress("surveying", decoder.count, decoder.count)
    blocks, weights, shifts, rates = zip(*rows, strict=True)
    return Survey(
        torch.tensor(blocks),
        torch.tensor(weights),
        torch.tensor(shifts, dtype=torch.float64),
        torch.tensor(rates, dtype=torch.float64),
    )


def kept_survey(folder: Path, settings: str, make: Callable[[], Survey]) -> Survey:
    """The survey that an interrupted call left in a work folder, or a new one, kept there.

    Args:
        folder: ``Source.work``.
        settings: A digest of what decides it; a file of other settings counts as none.
        make: Makes it.

    Raises:
        ArtifactError: The file is damaged or cannot be written.
    """
    path = folder / "survey.safetensors"
    if path.is_file():
        with reading(path) as file:
            if (file.metadata() or {}).get("settings") == settings:
                return Survey(**{name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    found = make()
    keep(path, asdict(found), {"settings": settings})
    return found


def _curve(weight: torch.Tensor, importance: torch.Tensor, factor: Factor) -> tuple[float, list[float]]:
    """``Survey.shift`` and ``Survey.rate`` of a layer."""
    which = torch.linspace(0, len(weight) - 1, min(_ROWS, len(weight))).round().to(torch.int64)
    unit = weight[which].float() / step_sizes(importance, factor, 1.0)[which, None]
    size = float(unit.square().mean().sqrt())
    if size == 0:
        return 0.0, [0.0] * len(_OFFSETS)
    magnitudes, signs = unit.abs() / size, unit.sign()
    rate = []
    for offset in _OFFSETS:
        q = (magnitudes / 2**offset - _DEADZONE).ceil().clamp(0, _MOST) * signs
        rate.append(entropy(q.to(torch.int8)))
    return float(np.log2(size)), rate
