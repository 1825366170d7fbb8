"""Loss and gradients of a batch, one block at a time: what is kept is what every block was given.

Each block runs twice: forward without a graph, then, from the last to the first, once more with one, through which
the gradient of its output goes back to its numbers and its input.
"""

from __future__ import annotations

import torch

from dareq_edge.tuning.divergence import divergence
from dareq_edge.tuning.student import Student

_LOGITS = 6 << 20  # of one piece: 25 MB in float32, below what an allocator asks the system for anew every time


def gather(student: Student, ids: torch.Tensor, teacher: torch.Tensor, *, graphs: int = 0) -> float:
    """Add the gradients of the mean divergence per token to all numbers' ``.grad``.

    Args:
        student: With the surroundings' weights in memory.
        ids: int64 [b, T].
        teacher: The float model's hidden states after its last block, floating [b, T, D].
        graphs: Blocks, the last ones, that run only once, with a graph that stays in memory until its turn comes.

    Returns:
        The loss, nats per token.
    """
    given: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    with torch.no_grad():
        hidden, _ = student.decoder.outside.enter(ids)
    for index, block in enumerate(student.blocks):
        kept = index >= len(student.blocks) - graphs
        x = hidden.detach().requires_grad_(kept)
        with torch.set_grad_enabled(kept):
            hidden = student.decoder.run(block, index, x)
        given.append((x, hidden if kept else None))
    loss, slope = _head(student, hidden.detach(), teacher)
    del hidden
    while given:
        x, done = given.pop()
        with torch.enable_grad():
            index = len(given)
            y = student.decoder.run(student.blocks[index], index, x.requires_grad_()) if done is None else done
        torch.autograd.backward(y, slope)
        assert x.grad is not None
        slope = x.grad
    return loss


def graph_bytes(student: Student, ids: torch.Tensor) -> int:
    """Memory that the graph of the first block holds for a batch int64 [b, T], weights written out included."""
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.no_grad():
        hidden, _ = student.decoder.outside.enter(ids)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = student.decoder.run(student.blocks[0], 0, hidden.requires_grad_())
    del y  # until here nothing of it was freed, so that no address came twice
    return sum(sizes.values())


def _head(student: Student, hidden: torch.Tensor, teacher: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The loss and its derivative with respect to the student's hidden states [b, T, D] after the last block."""
    vocab = int(student.decoder.skeleton.source.checkpoint.config.get_text_config(decoder=True).vocab_size)
    rows = max(1, min(hidden.shape[1], _LOGITS // vocab))
    weight = 1 / hidden.shape[:2].numel()
    loss, slope = 0.0, torch.empty_like(hidden)
    pieces = (torch.split(x.flatten(0, 1), rows) for x in (hidden, teacher, slope))
    for mine, theirs, out in zip(*pieces, strict=True):
        with torch.no_grad():
            want = _leave(student, theirs.float())
        with torch.enable_grad(), student.as_student():
            x = mine.detach().requires_grad_()
            logits = _leave(student, x)
        part, back = divergence(logits.detach(), want, weight)
        torch.autograd.backward(logits, back)
        assert x.grad is not None
        out.copy_(x.grad)
        loss += part
    return loss, slope


def _leave(student: Student, rows: torch.Tensor) -> torch.Tensor:
    """Logits [R, V] for hidden states [R, D]: every row for itself."""
    with torch.autocast("cpu", torch.bfloat16, enabled=student.decoder.compute == "bfloat16"):
        return student.decoder.outside.leave(rows[None])[0]
