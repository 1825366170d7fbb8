"""Fit: the rates at which a model's packed data comes to so many bytes, tables included.

Blocks and tables compete for the same bytes: at a slope, in nats per bit, blocks take what the survey says, and each
table the lambda at which its divergence plus slope times bits is least. The smallest slope that fits is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from dareq_edge.allocation.bytes import format_bytes
from dareq_edge.allocation.outside import divergences
from dareq_edge.blockwise.walk import Compute
from dareq_edge.container import HEADER_BYTES, coded_bytes, float_bytes
from dareq_edge.errors import AllocationError
from dareq_edge.kept import keep, reading
from dareq_edge.kernel_layout import LINE, choose_layout
from dareq_edge.matrix import matrix_of
from dareq_edge.progress import Progress
from dareq_edge.quantizers.entquant import EntQuant
from dareq_edge.recipes import Source
from dareq_edge.recipes._budget import FIRST_GUESS
from dareq_edge.recipes._survey import Survey

LAMBDAS = tuple(2.0**i for i in range(-2, 7))
"""What tables are tried at: about 8 to 2.3 bits per weight in SmolLM2-135M."""
LEAST_BITS = 1.0
"""Fewer coded bits per weight in blocks are refused: what comes out says nothing any more."""
_MOST_BITS = 8.0
_MARGIN = 0.002  # of the blocks' bytes: tuned scales and norms, and joined layers, code a little differently
_PADDED_BITS = 1.5  # of a code that only fills a block: always the same one, beside others
_FRAME = 40  # bytes of a frame with up to 63 zeros, its entry in the table included
_TOKENS = 1024  # that divergences are measured on


@dataclass(frozen=True, slots=True)
class TableRate:
    """One table at one lambda.

    Attributes:
        lam: lambda, see ``EntQuant``.
        bytes: In a container.
        nats: Divergence of the model with this table alone quantized, nats per token.
    """

    lam: float
    bytes: int
    nats: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What fits.

    Attributes:
        target_bits: Coded bits per weight of the layers in blocks.
        lams: lambda of every table.
    """

    target_bits: float
    lams: Mapping[str, float]


def other_bytes(source: Source) -> int:
    """Bytes of what is not planned, norms, biases and float matrices, as a container codes it, and its header."""
    planned = {id(source.model.get_submodule(name).weight) for name in source.plan}
    total, seen = HEADER_BYTES, set[int]()
    for name, parameter in source.model.state_dict(keep_vars=True).items():
        if name in source.names and id(parameter) not in planned and id(parameter) not in seen:
            seen.add(id(parameter))
            total += float_bytes(source.tensor(name).float().numpy()) + _gap(4 * parameter.numel())
    return total + sum(_layout_bytes(source, name) for name in source.plan)


def _layout_bytes(source: Source, module: str) -> int:
    """Bytes, not fewer, that the export's layout of one planned matrix adds to its codes and scales."""
    n, k = matrix_of(source.model.get_submodule(module)).shape
    layout = choose_layout((n, k), source.plan[module])
    rows = n * layout.k_blocks
    padded = math.ceil(_PADDED_BITS * (rows * layout.block_size - n * k) / 8)
    return padded + _gap(rows * layout.blob) + _gap(4 * rows)


def _gap(size: int) -> int:
    """Bytes of a frame for what lies between a parameter and the next line."""
    return _FRAME if size % LINE else 0


def table_bytes(source: Source, module: str, quantizer: EntQuant) -> int:
    """Bytes of one planned matrix in a container."""
    weight = matrix_of(source.model.get_submodule(module), source.tensor(f"{module}.weight"))
    value = quantizer(weight, source.plan[module], module)
    return coded_bytes(value.codes, value.scales, value.spec.bits)


def table_rates(
    source: Source, modules: Sequence[str], ids: torch.Tensor, compute: Compute, settings: str, progress: Progress
) -> dict[str, list[TableRate]]:
    """Measure every table at ``LAMBDAS``; what is measured stays in the work folder.

    Args:
        source: The model.
        modules: Planned matrices outside of the blocks.
        ids: Tokens, int64 [S, T].
        compute: See ``Decoder``.
        settings: A digest of what decides it; a file of other settings counts as none.
        progress: Called per run of the model.

    Raises:
        ArtifactError: The file is damaged or cannot be written.
    """
    path = source.work / "tables.safetensors"
    if path.is_file():
        with reading(path) as file:
            if (file.metadata() or {}).get("settings") == settings:
                return {name: _rates(file.get_tensor(name)) for name in modules}
    few, measured = ids[: max(1, _TOKENS // ids.shape[1])], dict[str, torch.Tensor]()
    for done, name in enumerate(modules):
        rows = []
        for at, lam in enumerate(LAMBDAS):
            progress("measuring tables", done * len(LAMBDAS) + at, len(modules) * len(LAMBDAS))
            quantizer = EntQuant(lam=lam)
            found = divergences(source, few, [name], [source.plan[name]], quantizer, compute=compute)
            rows.append([lam, table_bytes(source, name, quantizer), found[name][0]])
        measured[name] = torch.tensor(rows, dtype=torch.float64)
    keep(path, measured, {"settings": settings})
    return {name: _rates(rows) for name, rows in measured.items()}


def _rates(rows: torch.Tensor) -> list[TableRate]:
    return [TableRate(lam, int(size), nats) for lam, size, nats in rows.tolist()]


def fit_rates(max_bytes: int, other: int, survey: Survey, tables: Mapping[str, Sequence[TableRate]]) -> Fit:
    """Rates of blocks and tables at the smallest slope that fits.

    Args:
        max_bytes: Of the packed data file.
        other: Bytes of what no rate changes.
        survey: What blocks take.
        tables: Choices of every table.

    Raises:
        AllocationError: Nothing fits; the message says the smallest possible size.
    """
    weights, room = float(survey.weights.sum()), max_bytes - other
    smallest = sum(min(rate.bytes for rate in rates) for rates in tables.values())
    least = math.ceil(LEAST_BITS * weights / 8 / (1 - _MARGIN))
    if room < smallest + least:
        raise AllocationError(
            f"no rates fit packed data of {format_bytes(max_bytes)}; the smallest possible, with {LEAST_BITS:g} bit "
            f"per weight in blocks, is {format_bytes(other + smallest + least)}, allow at least that and the graph"
        )

    def chosen(slope: float) -> dict[str, TableRate]:
        return {n: min(rates, key=lambda r: r.nats + slope * 8 * r.bytes) for n, rates in tables.items()}

    def left(slope: float) -> float:
        """Bytes for blocks."""
        return room - sum(rate.bytes for rate in chosen(slope).values())

    low, high = -80.0, 40.0  # log2 of slopes, nats per bit
    while high - low > 1e-3:
        middle = (low + high) / 2
        need = max(FIRST_GUESS * survey.bits(2.0**middle, 0), LEAST_BITS * weights) / 8
        if need > left(2.0**middle):
            low = middle
        else:
            high = middle
    bits = 8 * left(2.0**high) * (1 - _MARGIN) / weights
    return Fit(min(bits, _MOST_BITS), {name: rate.lam for name, rate in chosen(2.0**high).items()})


def fixed_tables(source: Source, modules: Sequence[str], quantizer: EntQuant) -> dict[str, list[TableRate]]:
    """One choice per table, where nothing says what another would cost."""
    lam = quantizer.lam or 0.0
    return {name: [TableRate(lam, table_bytes(source, name, quantizer), 0.0)] for name in modules}
