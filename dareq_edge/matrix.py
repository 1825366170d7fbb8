"""Which modules hold a matrix [N, K], and how they store and use it; everything that quantizes asks here."""

from __future__ import annotations

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from dareq_edge.errors import UnsupportedArchitectureError

LINEARS = (nn.Linear, Conv1D)
"""Layers that compute y = x W^T + b. GPT-2's ``Conv1D`` is one whose parameter is the transpose, [K, N]."""


def matrix_of(module: nn.Module, stored: torch.Tensor | None = None) -> torch.Tensor:
    """W of a linear layer, or the table of an embedding.

    Args:
        module: One of ``LINEARS``, or an ``nn.Embedding``.
        stored: A tensor in the layout of ``module.weight``; ``None`` is that parameter itself.

    Returns:
        [N, K], a view: N output channels or tokens, K input channels or features.
    """
    weight = module.weight if stored is None else stored
    assert isinstance(weight, torch.Tensor)
    return weight.T if isinstance(module, Conv1D) else weight


def embed_scale(name: str, table: nn.Module) -> float | torch.Tensor | None:
    """What a token embedding multiplies its rows by (Gemma 3, BioGPT, XGLM): ``None`` for a plain lookup.

    A number multiplies as it is; a 0-dim tensor is cast to the table's dtype first, as the models do.

    Args:
        name: For the message.
        table: An ``nn.Embedding``.

    Raises:
        UnsupportedArchitectureError: Its forward does more, or it changes its rows (``max_norm``).
    """
    renormalizes = getattr(table, "max_norm", None) is not None
    if type(table).forward is nn.Embedding.forward and not renormalizes:
        return None
    scale = getattr(table, "embed_scale", None)
    if isinstance(table, nn.Embedding) and not renormalizes:
        if isinstance(scale, (int, float)):
            return float(scale)
        if isinstance(scale, torch.Tensor) and scale.ndim == 0:
            return scale
    raise UnsupportedArchitectureError(
        f"{name} is a {type(table).__name__}, which is more than a table, a scaled table or a plain head; keep table "
        "and head in float with --table-bits 32 (table_bits=None in Python)"
    )
