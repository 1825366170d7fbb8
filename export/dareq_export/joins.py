"""Parameters of the graph that hold several of the checkpoint's, row under row.

    q_proj.qweight [Nq, G, blob]
    k_proj.qweight [Nk, G, blob]     →     q_proj+k_proj+v_proj.qweight [Nq + Nk + Nv, G, blob]
    v_proj.qweight [Nv, G, blob]

Rows are consecutive bytes, so every part keeps its own name, offset and size in the manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class Join:
    """One parameter made of several.

    Attributes:
        value: In the graph; its rows are those of the parts, in order.
        parts: Names of the checkpoint's parameters.
    """

    value: ir.Value
    parts: tuple[str, ...]


def join(graph: ir.Graph, parts: Sequence[ir.Value]) -> Join:
    """Make the joined parameter of values [N_i, ...] and add it to the graph's inputs.

    Args:
        graph: Its parameters are graph inputs at this time, see ``bind.detach_parameters``.
        parts: Parameters of one dtype whose shapes differ in N alone.
    """
    names = [value.name or "" for value in parts]
    shapes = [value.shape.numpy() for value in parts if value.shape is not None]
    rows = sum(shape[0] for shape in shapes)
    value = ir.Value(name=joined_name(names), shape=ir.Shape([rows, *shapes[0][1:]]), type=parts[0].type)
    graph.inputs.append(value)
    return Join(value, tuple(names))


def joined_name(names: Sequence[str]) -> str:
    """``a.q.w``, ``a.k.w`` → ``a.q+k.w``: what differs between the dots is written side by side."""
    rows = [name.split(".") for name in names]
    if len({len(words) for words in rows}) > 1:
        return "+".join(names)
    differing = [i for i, words in enumerate(zip(*rows, strict=True)) if len(set(words)) > 1]
    low, high = differing[0], differing[-1] + 1
    middle = "+".join(".".join(words[low:high]) for words in rows)
    return ".".join([*rows[0][:low], middle, *rows[0][high:]])
