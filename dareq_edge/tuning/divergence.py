"""The loss: KL divergence of the student's next-token distributions from the teacher's, a few rows at a time."""

from __future__ import annotations

import torch

_ROWS = 32  # rows of logits that all passes over them find in the cache


def divergence(student: torch.Tensor, teacher: torch.Tensor, weight: float) -> tuple[float, torch.Tensor]:
    """Sum of KL(teacher ‖ student) = Σ p_t (log p_t - log p_s) over rows, and its derivative p_s - p_t.

    Args:
        student: Logits, floating [R, V].
        teacher: Logits, floating [R, V].
        weight: Multiplies both results.

    Returns:
        The loss, and its derivative with respect to ``student``, [R, V] in its dtype.
    """
    loss, slope = 0.0, torch.empty_like(student)
    parts = (torch.split(x, _ROWS) for x in (student, teacher, slope))
    for s, t, out in zip(*parts, strict=True):
        log_s = torch.log_softmax(s, dim=-1, dtype=torch.float32)
        log_t = torch.log_softmax(t, dim=-1, dtype=torch.float32)
        p_t = log_t.exp()
        loss += float(torch.dot(p_t.view(-1), log_t.sub_(log_s).view(-1)))
        torch.sub(log_s.exp_(), p_t, out=p_t)
        torch.mul(p_t, weight, out=out)
    return weight * loss, slope
