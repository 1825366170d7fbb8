"""dareq's work on one block: which rows are quantized against which moments; how is the matter of a ``Rounding``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from dareq_edge.blockwise.attention import Values, find_values, value_moments
from dareq_edge.blockwise.gather import Stream, gather, observe
from dareq_edge.blockwise.groups import input_groups
from dareq_edge.blockwise.journal import State
from dareq_edge.blockwise.moments import Moments
from dareq_edge.blockwise.outputs import CHUNK, Outputs
from dareq_edge.blockwise.walk import Compute, Decoder
from dareq_edge.matrix import matrix_of
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Change
from dareq_edge.recipes._balance import Balance, balanced, find_fold
from dareq_edge.rounding.codes import dequantize, to_quantized
from dareq_edge.rounding.feedback import Factor, factorize
from dareq_edge.rounding.rate import without_feedback
from dareq_edge.rounding.target import corrected_target
from dareq_edge.spec import QuantSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a recipe does in a block whatever its rounding is; fields as the recipe's of the same names."""

    correction: bool
    attention_moments: bool
    feedback: bool
    correction_mix: float = 0.5
    correction_damping: float = 0.1
    attention_mix: float = 0.1
    damping: float = 0.03
    balance: bool = False
    row_feedback: int = 0
    row_damping: float = 0.7
    tuning: int = 0
    compute: Compute = "float32"


class Rounding(Protocol):
    """How rows that share their moments become codes."""

    def __call__(
        self,
        weight: torch.Tensor,
        second: torch.Tensor,
        factor: Factor | None,
        output: torch.Tensor | None,
        spec: QuantSpec,
        name: str,
        above: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose codes and scales.

        Args:
            weight: Target, float32 [N, K].
            second: H, float32 [K, K].
            factor: Of H; ``None`` for no error feedback.
            output: G, float32 [N, N]; ``None`` rounds every row for itself.
            spec: Bits, group size, precision of scales.
            name: For messages.
            above: Signed codes int8 [R, K] of all rows that are stored before these in the same matrix; ``None`` if
                there are none, or these are of several matrices.

        Returns:
            Signed codes int8 [N, K] and scales float32 [N, G].

        Raises:
            CheckpointError: NaN or infinity, or an H or G that no damping makes positive definite.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """Where the walk is.

    Attributes:
        decoder: The model.
        index: The block.
        state: Hidden states "hidden" and, where needed, the float model's, "float".
        outputs: Output moments of all blocks, if they are used.
    """

    decoder: Decoder
    index: int
    state: State
    outputs: Outputs | None = None

    def stream(self, name: str) -> Stream:
        """A fresh block and the hidden states it is given."""
        return Stream(self.decoder.block(self.index), self.state[name])

    def spec(self, layer: str) -> QuantSpec:
        """How a layer of the block is quantized."""
        return self.decoder.skeleton.source.plan[f"{self.decoder.path(self.index)}.{layer}"]


@dataclass(slots=True, eq=False)
class _Reference:
    """The float model's way through the block: what it was given, and what its layers were, until that is used."""

    before: Stream | None
    inputs: dict[str, torch.Tensor]

    def taken(self) -> Stream | None:
        """What it was given, which is then no longer kept here."""
        before, self.before = self.before, None
        return before


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows of layers that are quantized against the same moments.

    Attributes:
        where: (layer, which of its rows).
        second: H, [K, K].
        cross: C, [K, K].
        factors: t of the columns, [K], if they are balanced.
    """

    where: list[tuple[str, torch.Tensor]]
    second: torch.Tensor
    cross: torch.Tensor | None
    factors: torch.Tensor | None


def quantize_block(walk: Walk, parts: Parts, rounding: Rounding, label: str) -> list[Change]:
    """Quantize the layers of a block in the order they run, and bring the state behind it."""
    decoder, index, state = walk.decoder, walk.index, walk.state
    stream = walk.stream("hidden")
    values = find_values(decoder, stream.block, index) if parts.attention_moments else None
    groups = input_groups(decoder, stream.block, index)
    reference = _reference(walk, groups, kept=values is not None) if parts.correction else None
    if "float" in state and reference is None:
        decoder.advance(decoder.block(index), index, state["float"])
    changes: dict[str, torch.Tensor | QuantizedTensor] = {}
    for group in groups:
        balance = _balance(walk, stream, group, changes) if parts.balance else None
        rows = _rows_of_group(walk, stream, reference, group, values, parts, balance)
        changes |= dict(_quantize_group(walk, stream, group, rows, parts, rounding, balance, label))
    decoder.advance(stream.block, index, stream.hidden)
    return list(changes.items())


def _balance(
    walk: Walk, stream: Stream, group: list[str], changes: Mapping[str, torch.Tensor | QuantizedTensor]
) -> Balance | None:
    """Where the factors of a group's columns go, if they can go anywhere."""
    fold = find_fold(walk.decoder, walk.index, stream.block, group)
    if fold is None:
        return None
    prefix = walk.decoder.path(walk.index)
    target = f"{prefix}.{fold.before}.weight"
    rows = changes.get(target)
    dtype = walk.decoder.skeleton.source.tensor(target).dtype
    return Balance(fold, stream.block, prefix, dtype, rows if isinstance(rows, QuantizedTensor) else None)


def _reference(walk: Walk, groups: list[list[str]], *, kept: bool) -> _Reference:
    """Bring the float model behind the block, and keep its layers' inputs, and its own if asked to."""
    before = walk.stream("float")
    inputs, walk.state["float"] = observe(walk.decoder, walk.index, before, [group[0] for group in groups])
    return _Reference(before if kept else None, inputs)


def _rows_of_group(
    walk: Walk,
    stream: Stream,
    reference: _Reference | None,
    group: list[str],
    values: Values | None,
    parts: Parts,
    balance: Balance | None,
) -> Iterator[_Rows]:
    """All rows of layers that share an input, with their moments: those of few of them in memory at a time."""
    plain = _moments(walk, stream, reference, group[0])
    second, cross = plain.second, plain.cross if reference else None
    del plain
    mix, factors = parts.attention_mix, None
    if balance is not None:
        factors = balance.factors(_factor(second, parts, group[0]) or without_feedback(second))
    rest = {name: torch.ones(len(matrix_of(stream.block.get_submodule(name))), dtype=torch.bool) for name in group}
    if values and values.layer in group:
        before = reference.taken() if reference else None
        moments = value_moments(walk.decoder, walk.index, stream, values, before)
        del before
        for rows in values.rows:
            own, here = moments.pop(0), torch.arange(rows.start, rows.stop)
            rest[values.layer][here] = False
            both = None if cross is None else own.cross.add_(cross, alpha=mix)
            yield _Rows([(values.layer, here)], own.second.add_(second, alpha=mix), both, factors)
    by_spec: dict[QuantSpec, list[tuple[str, torch.Tensor]]] = {}
    for name, free in rest.items():
        if bool(free.any()):
            by_spec.setdefault(walk.spec(name), []).append((name, free.nonzero()[:, 0]))
    for where in by_spec.values():
        yield _Rows(where, second, cross, factors)


def _moments(walk: Walk, stream: Stream, reference: _Reference | None, layer: str) -> Moments:
    """Moments of what a layer is given; the float model's inputs of it are dropped."""
    known = {layer: reference.inputs.pop(layer)} if reference else None
    return gather(walk.decoder, walk.index, stream, [layer], known)[layer]


def _quantize_group(
    walk: Walk,
    stream: Stream,
    group: list[str],
    parts_of_group: Iterable[_Rows],
    parts: Parts,
    rounding: Rounding,
    balance: Balance | None,
    label: str,
) -> list[Change]:
    """Quantize layers in place, and balance their columns."""
    layers = {name: matrix_of(stream.block.get_submodule(name)) for name in group}
    specs = {name: replace(walk.spec(name), method=label) for name in group}
    codes = {name: torch.zeros(w.shape, dtype=torch.int8) for name, w in layers.items()}
    scales = {name: torch.empty(len(w), specs[name].groups(w.shape[1])) for name, w in layers.items()}
    prefix = walk.decoder.path(walk.index)
    outputs = (walk.outputs.load(walk.index) if walk.outputs else None) or {}
    factors: torch.Tensor | None = None
    for rows in parts_of_group:
        first = rows.where[0][0]
        full = f"{prefix}.{first}"
        targets, second, factors = _targets(layers, rows, parts, full), rows.second, rows.factors
        if factors is not None:
            targets, second = {n: w * factors for n, w in targets.items()}, balanced(second, factors)
        factor = _factor(second, parts, full)
        for where, output in _by_output(rows.where, outputs):
            target = torch.cat([targets[name][which] for name, which in where])
            above = _above(where, codes)
            q, s = rounding(target, second, factor, output, specs[first], f"{prefix}.{where[0][0]}", above)
            sizes = [len(which) for _, which in where]
            for (name, which), own_q, own_s in zip(where, torch.split(q, sizes), torch.split(s, sizes), strict=True):
                codes[name][which], scales[name][which] = own_q, own_s
    for name, weight in layers.items():
        weight.copy_(dequantize(codes[name], scales[name], specs[name]))
    found: list[Change] = [
        (f"{prefix}.{name}.weight", to_quantized(codes[name], scales[name], specs[name])) for name in group
    ]
    return found if balance is None or factors is None else [*found, *balance.apply(factors)]


def _above(where: list[tuple[str, torch.Tensor]], codes: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """What is stored before the rows of one layer, as far as it is chosen already."""
    (name, which), *others = where
    start = int(which[0])
    return codes[name][:start] if start and not others else None


def _factor(second: torch.Tensor, parts: Parts, name: str) -> Factor | None:
    return factorize(second, damping=parts.damping, name=name) if parts.feedback else None


def _targets(layers: dict[str, torch.Tensor], rows: _Rows, parts: Parts, name: str) -> dict[str, torch.Tensor]:
    """What rounding works towards, [N, K] per layer; rows that are not meant keep what they were."""
    weights = {layer: layers[layer].clone() for layer, _ in rows.where}
    if rows.cross is None:
        return weights
    mix, damping = parts.correction_mix, parts.correction_damping
    together = torch.cat([weights[layer][which] for layer, which in rows.where])
    moved = corrected_target(together, rows.second, rows.cross, mix=mix, damping=damping, name=name)
    sizes = [len(which) for _, which in rows.where]
    for (layer, which), part in zip(rows.where, torch.split(moved, sizes), strict=True):
        weights[layer][which] = part
    return weights


def _by_output(
    where: list[tuple[str, torch.Tensor]], outputs: dict[str, torch.Tensor]
) -> Iterator[tuple[list[tuple[str, torch.Tensor]], torch.Tensor | None]]:
    """Rows that are rounded together, and their output moments [n, n]: all at once if there are none."""
    if not outputs:
        yield where, None
        return
    for name, which in where:
        for start in range(0, int(which.max()) + 1, CHUNK):
            here = which[(which >= start) & (which < start + CHUNK)]
            if len(here):
                own = here - start
                yield [(name, here)], outputs[f"{name}:{start}"][own][:, own]
