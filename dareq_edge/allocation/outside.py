"""What storing tables, head and projections outside the blocks in each form costs: divergence, measured directly.

There are few of them, and second moments say little about a table whose rows are looked up: so the model is run with
each of them in each form, all else float.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

import torch

from dareq_edge.blockwise.walk import Compute, Decoder
from dareq_edge.matrix import matrix_of
from dareq_edge.progress import Progress, silent
from dareq_edge.quantizers import Quantizer
from dareq_edge.recipes import Source
from dareq_edge.spec import QuantSpec

_ROWS = 64  # tokens whose distributions are compared at a time


@dataclass(frozen=True, slots=True, eq=False)
class _Changed(Source):
    """A source some of whose tensors are others."""

    changed: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def tensor(self, target: str) -> torch.Tensor:
        found = self.changed.get(target)
        return self.checkpoint.tensor(self.names[target]) if found is None else found


@torch.no_grad()
def divergences(
    source: Source,
    ids: torch.Tensor,
    modules: Sequence[str],
    specs: Sequence[QuantSpec],
    quantizer: Quantizer,
    *,
    compute: Compute = "float32",
    progress: Progress = silent,
) -> dict[str, list[float]]:
    """KL(float model, model with one matrix quantized), in nats per token.

    Args:
        source: The model.
        ids: Tokens, int64 [S, T].
        modules: Names of the matrices.
        specs: Forms to try.
        quantizer: Chooses scales and codes, as it will later.
        compute: See ``Decoder``.
        progress: Called per run of the model.

    Returns:
        Module name → divergence for each of ``specs``.
    """
    teacher, runs = Decoder.open(source, compute=compute), len(modules) * len(specs)
    expected, found, done = _behind(teacher, ids), dict[str, list[float]](), 0
    for module in modules:
        owner, target = source.model.get_submodule(module), f"{module}.weight"
        found[module] = []
        for spec in specs:
            progress("measuring tables", done, runs)
            value = quantizer(matrix_of(owner, source.tensor(target)), spec, module)
            stored = matrix_of(owner, torch.from_numpy(value.dequantize()))  # transposes back where it is transposed
            given = {f.name: getattr(source, f.name) for f in fields(Source)}
            student = Decoder.open(_Changed(**given, changed={target: stored}), compute=compute)
            found[module].append(_divergence(teacher, student, expected, _behind(student, ids)))
            done += 1
    progress("measuring tables", runs, runs)
    return found


def _behind(decoder: Decoder, ids: torch.Tensor) -> torch.Tensor:
    """Hidden states after the last block: float32 [S, T, D]."""
    hidden = decoder.embed(ids)
    for index in range(decoder.count):
        decoder.advance(decoder.block(index), index, hidden)
    return hidden


def _divergence(teacher: Decoder, student: Decoder, expected: torch.Tensor, hidden: torch.Tensor) -> float:
    total = 0.0
    for p, q in zip(_rows(teacher, expected), _rows(student, hidden), strict=True):
        log_p, log_q = torch.log_softmax(p, dim=-1), torch.log_softmax(q, dim=-1)
        total += float((log_p.exp() * (log_p - log_q)).sum(dtype=torch.float64))
    return total / expected[..., 0].numel()


def _rows(decoder: Decoder, hidden: torch.Tensor) -> Iterator[torch.Tensor]:
    """Logits float32 [r, V], few at a time; a window's at most in memory."""
    for window in hidden:
        for logits in decoder.finish(window[None]):
            yield from torch.split(logits[0].float(), _ROWS)
