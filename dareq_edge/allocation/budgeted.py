"""The plan with the least cost whose file is not larger than it may be."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dareq_edge.allocation.knapsack import Choice, solve
from dareq_edge.allocation.outside import divergences
from dareq_edge.allocation.sensitivity import sensitivities
from dareq_edge.allocation.sizes import fixed_bytes, matrix_bytes, matrix_shapes
from dareq_edge.blockwise.journal import digest
from dareq_edge.blockwise.outputs import Outputs, measure_outputs
from dareq_edge.blockwise.walk import Compute, Decoder
from dareq_edge.kept import keep, reading
from dareq_edge.progress import Progress, silent
from dareq_edge.recipes import Recipe, Source
from dareq_edge.spec import QuantSpec

INSIDE = tuple(QuantSpec(bits, group) for bits in (4, 8) for group in (None, 128, 64, 32))
"""Forms of linear layers in blocks; 2 and 3 bits take the bytes of 4 in an exported folder."""
OUTSIDE = (QuantSpec(4, 32), QuantSpec(4), QuantSpec(8), QuantSpec(8, 32))
"""Forms of tables, head and projections."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What every matrix costs in every form, float being free.

    Attributes:
        forms: Module name → forms.
        nats: Module name → nats per token in each.
    """

    forms: Mapping[str, tuple[QuantSpec, ...]]
    nats: Mapping[str, tuple[float, ...]]

    def plan(self, model: torch.nn.Module, max_bytes: int, *, cache_bits: int = 32) -> dict[str, QuantSpec]:
        """The plan of least cost.

        Args:
            model: The float model, on the meta device or not.
            max_bytes: Bytes that model.onnx and model.onnx.data may have together.
            cache_bits: As the model will be exported.

        Returns:
            Spec per module; what is not named stays float.

        Raises:
            AllocationError: Nothing fits; the message says the smallest possible size.
        """
        shapes = matrix_shapes(model)
        fixed = fixed_bytes(model, cache_bits=cache_bits)
        fixed += sum(matrix_bytes(shape, None) for name, shape in shapes.items() if name not in self.forms)
        names = [name for name in shapes if name in self.forms]
        choices = [
            [
                *(
                    Choice(spec, matrix_bytes(shapes[name], spec), cost)
                    for spec, cost in zip(self.forms[name], self.nats[name], strict=True)
                ),
                Choice(None, matrix_bytes(shapes[name], None), 0.0),
            ]
            for name in names
        ]
        chosen = solve(choices, max_bytes, fixed=fixed)
        found = {name: row[at].spec for name, row, at in zip(names, choices, chosen, strict=True)}
        return {name: spec for name, spec in found.items() if spec is not None}


def measure_costs(
    source: Source, recipe: Recipe, ids: torch.Tensor, *, compute: Compute = "float32", progress: Progress = silent
) -> Costs:
    """Measure what a plan is made from; what is measured stays in the source's work folder for the next call.

    Args:
        source: The model, every matrix that may be quantized in its plan.
        recipe: What will quantize: part of what the kept file belongs to.
        ids: Tokens, int64 [S, T].
        compute: See ``Decoder``.
        progress: Called per block and run.

    Raises:
        ArtifactError: The work folder cannot be written, or what is in it is damaged.
    """
    decoder = Decoder.open(source, compute=compute)
    inside = [name for name in source.plan if name.startswith(f"{decoder.skeleton.path}.")]
    outside = [name for name in source.plan if name not in set(inside)]
    dtype, path = source.options.scale_dtype, source.work / "costs.safetensors"
    forms = {
        **{name: tuple(replace(spec, scale_dtype=dtype) for spec in INSIDE) for name in inside},
        **{name: tuple(replace(spec, scale_dtype=dtype) for spec in OUTSIDE) for name in outside},
    }
    about = hashlib.sha256(f"{digest(source, recipe, {'ids': ids})}{sorted(forms.items())}".encode()).hexdigest()
    nats = _kept(path, about)
    if nats is None:
        outputs = Outputs(source.work, about)
        measure_outputs(decoder, ids, 0, outputs, progress)
        nats = sensitivities(decoder, ids, outputs, forms[inside[0]], progress) if inside else {}
        if outside:
            quantizer = source.options.quantizer()
            nats |= divergences(
                source, ids, outside, forms[outside[0]], quantizer, compute=compute, progress=progress
            )
        keep(path, {n: torch.tensor(c, dtype=torch.float64) for n, c in nats.items()}, {"settings": about})
    return Costs(forms, {name: tuple(nats[name]) for name in forms})


def _kept(path: Path, about: str) -> dict[str, list[float]] | None:
    if not path.is_file():
        return None
    with reading(path) as file:
        if (file.metadata() or {}).get("settings") != about:
            return None
        return {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118
