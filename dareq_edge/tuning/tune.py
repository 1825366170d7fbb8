"""Tuning the numbers around fixed codes by distillation from the float model, without the model in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from dareq_edge.blockwise.walk import Decoder
from dareq_edge.errors import CheckpointError
from dareq_edge.progress import Progress, silent
from dareq_edge.recipes import Change
from dareq_edge.tuning.gradients import gather, graph_bytes
from dareq_edge.tuning.numbers import Gains, Number
from dareq_edge.tuning.settings import Tuning
from dareq_edge.tuning.state import Saved, digest
from dareq_edge.tuning.student import Student, opened

_BETAS = (0.9, 0.95)
_GRAPHS = 3 << 29  # bytes


def tune(
    decoder: Decoder,
    quantized: Sequence[Sequence[Change]],
    teacher: torch.Tensor,
    ids: torch.Tensor,
    settings: Tuning,
    progress: Progress = silent,
    *,
    save_every: int = 10,
    graphs: int | None = None,
) -> Iterator[Change]:
    """Make the quantized model's predictions on a text more like the float model's; codes stay as they are.

    What is tuned: a gain for each row of every quantized layer in a block, and all vectors in the blocks and after
    them (norm gains and biases, biases of layers). The model computes with every number as it is stored (scales in
    the spec's precision, others in the file's dtype), while gradients pass the rounding unchanged. Token table and
    head take part as the float model has them, even if they are quantized too.

    Args:
        decoder: The walk; its ``compute`` is used here too, its ``batch`` is not.
        quantized: What the recipe changes in every block, e.g. ``Journal.changes``.
        teacher: Hidden states of the float model after its last block, floating [S, T, D], for ``ids``.
        ids: int64 [S, T].
        settings: How.
        progress: Called per step.
        save_every: Steps between two states written to the source's work folder; does not change the result.
        graphs: See ``gather``: memory for time; ``None`` is as many as 1.5 GiB hold. Does not change the result.

    Yields:
        Everything in ``quantized``, tuned, and every other vector that changed. Without steps: ``quantized`` itself.

    Raises:
        CheckpointError: The loss is not finite; a weight file can no longer be read.
        ArtifactError: The state cannot be written, or is damaged.
    """
    if settings.steps:
        with opened(decoder, quantized) as student:
            _Descent(student, settings, _saved(decoder, quantized, teacher, ids, settings)).run(
                ids, teacher, progress, save_every, graphs
            )
            tuned = dict(number.change() for number in student.numbers if number.moved)
    else:
        tuned = {}
    for name, value in (change for changes in quantized for change in changes):
        yield name, tuned.pop(name, value)
    yield from tuned.items()


def batches(windows: int, settings: Tuning) -> Iterator[torch.Tensor]:
    """Indices int64 [b] of the windows of each step: all of them in a random order, again and again."""
    generator, size = torch.Generator().manual_seed(settings.seed), min(settings.batch, windows)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(settings.steps):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(windows, generator=generator)])
        yield order[:size]
        order = order[size:]


def _saved(
    decoder: Decoder,
    quantized: Sequence[Sequence[Change]],
    teacher: torch.Tensor,
    ids: torch.Tensor,
    settings: Tuning,
) -> Saved:
    about = digest(settings, decoder.compute, [c for changes in quantized for c in changes], [teacher, ids])
    return Saved(decoder.skeleton.source.work / "tuning.safetensors", about)


class _Descent:
    """Adam on relative numbers, see ``Number``."""

    def __init__(self, student: Student, settings: Tuning, saved: Saved) -> None:
        self._student, self._settings, self._saved = student, settings, saved
        scales = [n for n in student.numbers if isinstance(n, Gains)]
        others = [n for n in student.numbers if not isinstance(n, Gains)]
        self._groups: list[tuple[Sequence[Number], float]] = [
            (scales, settings.rate_scales),
            (others, settings.rate_norms),
        ]
        self._flat = [torch.zeros(sum(n.parameter.numel() for n in group)) for group, _ in self._groups]
        self._adam = torch.optim.Adam(
            [{"params": [flat], "lr": rate} for flat, (_, rate) in zip(self._flat, self._groups, strict=True)],
            betas=_BETAS,
        )

    def run(
        self, ids: torch.Tensor, teacher: torch.Tensor, progress: Progress, save_every: int, graphs: int | None
    ) -> None:
        done = self._load()
        self._install()
        if graphs is None:
            graphs = _GRAPHS // max(1, graph_bytes(self._student, ids[: self._settings.batch]))
        for step, chosen in enumerate(batches(len(ids), self._settings)):
            if step < done:
                continue
            progress("tuning scales", step, self._settings.steps)
            loss = gather(self._student, ids[chosen], teacher[chosen], graphs=graphs)
            if not math.isfinite(loss):
                raise CheckpointError(
                    f"tuning step {step} gave a loss of {loss}; lower both rates, or use compute float32"
                )
            self._step(step)
            if (step + 1) % save_every == 0:
                self._save(step + 1)
        progress("tuning scales", self._settings.steps, self._settings.steps)

    def _step(self, step: int) -> None:
        """One update from the gathered gradients, which are dropped."""
        for flat, (numbers, _) in zip(self._flat, self._groups, strict=True):
            gradients = [number.gradient() for number in numbers]
            flat.grad = torch.cat(gradients) if gradients else torch.zeros_like(flat)
        for number in self._student.numbers:
            number.parameter.grad = None
        if self._settings.clip:
            torch.nn.utils.clip_grad_norm_(self._flat, self._settings.clip)
        for group, (_, rate) in zip(self._adam.param_groups, self._groups, strict=True):
            group["lr"] = rate * self._settings.factor(step)
        self._adam.step()
        self._install()

    def _install(self) -> None:
        """Let the model compute with the numbers as they would be stored now."""
        for flat, (numbers, _) in zip(self._flat, self._groups, strict=True):
            parts = torch.split(flat, [number.parameter.numel() for number in numbers])
            for number, part in zip(numbers, parts, strict=True):
                number.move(part)

    def _save(self, step: int) -> None:
        tensors = {}
        for i, flat in enumerate(self._flat):
            tensors[f"{i}"] = flat
            tensors |= {f"{i}.{name}": value for name, value in self._adam.state[flat].items()}
        self._saved.save(step, tensors)

    def _load(self) -> int:
        found = self._saved.load()
        if found is None:
            return 0
        step, tensors = found
        for i, flat in enumerate(self._flat):
            flat.copy_(tensors.pop(f"{i}"))
            prefix = f"{i}."
            self._adam.state[flat] = {
                name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)
            }
        return step
