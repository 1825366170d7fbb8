"""How many bytes a plan takes in an exported folder, from the model's structure alone: never less than is written.

    model.onnx.data    parameters one after the other, each from a multiple of 64 bytes on
                         a planned matrix: codes in 4-bit (2 to 4 bits) or 8-bit (5 to 8) containers, padded to whole
                         blocks where no block divides K, and one float32 scale per row and block, where "per channel"
                         is the largest block that divides K with the row's scale repeated
                         a tied table: once; all else, a matrix without a spec too: float32
    model.onnx         names, operators and small constants: bounded, see ``_GRAPH``

Joined projections (q, k, v) lie in one parameter, which saves at most the padding between them: the sum over
parameters is an upper bound whatever is joined. ``dareq_export.planned`` gives the exact size of a plan in seconds.
Profile native; the standard operators of the others repeat no scale and pad no block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from dareq_edge.kernel_layout import LINE, choose_layout
from dareq_edge.matrix import matrix_of
from dareq_edge.plan import matrices
from dareq_edge.spec import QuantSpec

_FLOAT = 4  # bytes


@dataclass(frozen=True, slots=True)
class _Graph:
    """Bytes of the ONNX file, rounded up from the encoding of its records: names, operators, shapes of results.

    Attributes:
        parameter: Shape, place in the data file and use of one parameter, beside its name twice.
        matrix: Operators and results of a linear layer or an embedding.
        norm: Operators and results of a norm that is one operator, with an addition before it.
        other: Of another module that has parameters: a norm of a dozen operators (Cohere's).
        layer: Attention, its cache's inputs and outputs, sums, activation, reshapes of heads.
        rotary: Angles of one kind of rotation, and in each layer queries and keys rotated by them.
        rest: Positions, masks, the last positions, the file's head.
    """

    parameter: int = 92
    matrix: int = 230
    norm: int = 360
    other: int = 1600
    layer: int = 2000
    rotary: tuple[int, int] = (1500, 700)
    rest: int = 5500


_GRAPH = _Graph()


@dataclass(frozen=True, slots=True)
class ExportedSize:
    """Upper bounds in bytes.

    Attributes:
        data: The external data file.
        graph: The ONNX file.
    """

    data: int
    graph: int

    @property
    def total(self) -> int:
        """Both."""
        return self.data + self.graph


def matrix_bytes(shape: tuple[int, int], spec: QuantSpec | None) -> int:
    """Bytes of one matrix in the data file, with what aligns its codes and its scales.

    Args:
        shape: (N, K).
        spec: How it is stored; ``None`` is float32.
    """
    n, k = shape
    if spec is None:
        return _aligned(_FLOAT * n * k)
    layout = choose_layout(shape, spec)
    rows = n * layout.k_blocks
    return _aligned(rows * layout.blob) + _aligned(_FLOAT * rows)


def exported_size(model: nn.Module, plan: Mapping[str, QuantSpec], *, cache_bits: int = 32) -> ExportedSize:
    """Bounds for a whole plan.

    Args:
        model: The float model, on the meta device or not.
        plan: Spec per module name; what is not named is float32.
        cache_bits: 8 for keys and values in 8 bits, whose scales are in the graph.
    """
    shapes = matrix_shapes(model)
    data = sum(matrix_bytes(shape, plan.get(name)) for name, shape in shapes.items())
    return ExportedSize(data + _rest(model), graph_bytes(model, cache_bits=cache_bits))


def fixed_bytes(model: nn.Module, *, cache_bits: int = 32) -> int:
    """Bytes of what no plan changes: norms, biases, constants and the graph.

    Args:
        model: As for ``exported_size``.
        cache_bits: As for ``exported_size``.
    """
    return _rest(model) + graph_bytes(model, cache_bits=cache_bits)


def matrix_shapes(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(N, K) of every matrix that a plan may name, by module name in the model's order; tied ones once."""
    found: dict[str, tuple[int, int]] = {}
    seen: set[int] = set()
    for name, module in matrices(model).items():
        if id(module.weight) not in seen:
            seen.add(id(module.weight))
            n, k = matrix_of(module).shape
            found[name] = (n, k)
    return found


def parameter_count(model: nn.Module) -> int:
    """Parameters of a model, tied ones once: what bits per weight of a whole file are counted over."""
    return sum({id(p): p.numel() for p in model.parameters()}.values())


def graph_bytes(model: nn.Module, *, cache_bits: int = 32) -> int:
    """Bound of the ONNX file, for any plan.

    Args:
        model: A transformers model, on the meta device or not.
        cache_bits: As for ``exported_size``.
    """
    config: Any = model.config
    text = config.get_text_config(decoder=True)
    layers, stored, owners = text.num_hidden_layers, list(model.state_dict()), matrices(model)
    others = [name for name in stored if name.rpartition(".")[0] not in owners]
    biases = [name for name in stored if name.rpartition(".")[0] in owners and not name.endswith(".weight")]
    names = [f"{name}.{kind}" for name in owners for kind in ("qweight", "scales")] + biases + others
    computed = {n: b for n, b in model.named_buffers() if n not in stored and b.is_floating_point()}
    total = _GRAPH.rest + _GRAPH.layer * layers + _GRAPH.matrix * len(owners)
    for name in {name.rpartition(".")[0] for name in others}:
        total += _GRAPH.norm if _is_plain_norm(model.get_submodule(name)) else _GRAPH.other
    total += sum(_GRAPH.parameter + 2 * len(name) for name in (*names, *computed))
    total += sum(buffer.numel() * buffer.element_size() for buffer in computed.values())
    if computed:
        total += _GRAPH.rotary[0] * len(computed) + _GRAPH.rotary[1] * layers
    return int(total) + (_cache_scales(text) * layers if cache_bits == 8 else 0)


def _is_plain_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("RMSNorm")


def _cache_scales(text: Any) -> int:
    """What one layer's 8-bit cache adds to the graph: scales float32 [kv_heads, head_dim] of keys and of values."""
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * (_FLOAT * heads * width + _GRAPH.parameter) + _GRAPH.parameter)


def _rest(model: nn.Module) -> int:
    """Data bytes of all parameters and stored buffers that are not matrices."""
    inside = {id(module.weight) for module in matrices(model).values()}
    others = {id(t): t.numel() for t in model.state_dict(keep_vars=True).values() if id(t) not in inside}
    return sum(_aligned(_FLOAT * size) for size in others.values())


def _aligned(size: int) -> int:
    return math.ceil(size / LINE) * LINE
