"""Passes: linears that read the same input become one MatMulNBits over their rows.

    q = MatMulNBits(x, Wq), k = …(x, Wk), v = …(x, Wv)                MatMulNBits(x, [Wq; Wk; Wv])
    GroupQueryAttention(q, k, v, …)                            →      GroupQueryAttention(qkv, –, –, …)

    q → RotaryEmbedding, k → RotaryEmbedding, v                →      MatMulNBits → Split → q, k, v, and on as before

    gate = MatMulNBits(x, Wg), up = MatMulNBits(x, Wu)         →      MatMulNBits(x, [Wg; Wu]) → Split → gate, up

Activations are quantized once instead of three times, and two parallel regions less start and end per layer. Only
linears of one format (bits, block size, bias or none) are joined.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dareq_export.joins import Join, join
from dareq_export.passes import _graph

_FORMAT = ("K", "bits", "block_size", "accuracy_level")
_BIAS = 5


class _JoiningPass(ir.passes.InPlacePass):
    """What both have in common.

    Args:
        joins: Joined parameters are added here.
    """

    def __init__(self, joins: list[Join]) -> None:
        super().__init__()
        self._joins = joins


class JoinedAttentionPass(_JoiningPass):
    """Feed GroupQueryAttention with packed queries, keys and values."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Pack every attention whose three inputs come from linears of one format, or from one Split."""
        modified = False
        for attention in _graph.attentions(model.graph):
            query, key, value = attention.inputs[:3]
            if query is None or key is None or value is None:
                continue
            packed = _unsplit(query, key, value) or _joined([query, key, value], self._joins)
            if packed is not None:
                attention.replace_input_with(0, packed)
                attention.replace_input_with(1, None)
                attention.replace_input_with(2, None)
                modified = True
            else:
                modified |= _join_and_split([_before_rotary(query), _before_rotary(key), value], self._joins)
        return ir.passes.PassResult(model, modified)


class JoinedGatePass(_JoiningPass):
    """Compute gate and up projections of a gated feed-forward block at once."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Join every pair of linears of one format and size that read one value and meet in a product."""
        modified = False
        for product in list(model.graph):
            pair = _gate_and_up(product)
            if pair is None:
                continue
            modified |= _join_and_split(pair, self._joins)
        return ir.passes.PassResult(model, modified)


def _join_and_split(outputs: list[ir.Value], joins: list[Join]) -> bool:
    """Join the linears that make these values [.., N_i] and cut the result where they begin; false if they differ."""
    packed = _joined(outputs, joins)
    if packed is None or packed.producer() is None:
        return False
    node = packed.producer()
    graph = None if node is None else node.graph
    assert node is not None
    assert isinstance(graph, ir.Graph)
    sizes = [int(value.producer().attributes["N"].as_int()) for value in outputs]  # type: ignore[union-attr]  # linears
    cuts = _graph.int64s(graph, "split." + "_".join(map(str, sizes)), sizes)
    split = ir.Node("", "Split", [packed, cuts], [ir.AttrInt64("axis", -1)], num_outputs=len(outputs))
    graph.insert_after(node, split)
    for new, old in zip(split.outputs, outputs, strict=True):
        new.shape, new.type = old.shape, old.type
        ir.convenience.replace_all_uses_with(old, new)
    return True


def _before_rotary(value: ir.Value) -> ir.Value:
    """What a RotaryEmbedding rotates, or the value itself."""
    node = value.producer()
    rotary = node is not None and _graph.is_op(node, "RotaryEmbedding", _graph.MICROSOFT)
    return node.inputs[0] or value if rotary and node is not None else value


def _unsplit(query: ir.Value, key: ir.Value, value: ir.Value) -> ir.Value | None:
    """What a Split made the three of, in this order: a model that was packed all along (GPT-2, Phi-3)."""
    node = query.producer()
    if node is None or not _graph.is_op(node, "Split") or tuple(node.outputs) != (query, key, value):
        return None
    axis = node.attributes.get("axis")
    last = axis is not None and axis.as_int() in (-1, 2)
    return node.inputs[0] if last and all(_graph.used_once(x) for x in node.outputs) else None


def _gate_and_up(product: ir.Node) -> list[ir.Value] | None:
    """The two linears' outputs of Mul(act(gate), up), in that order."""
    if not _graph.is_op(product, "Mul"):
        return None
    for index in (0, 1):
        activated, up = product.inputs[index], product.inputs[1 - index]
        gate = _linear_below(activated)
        if gate is None or up is None or gate is up or not _is_linear(up) or not _graph.same_shape(gate, up):
            continue
        if gate.producer().inputs[0] is up.producer().inputs[0]:  # type: ignore[union-attr]  # both are linears
            return [gate, up]
    return None


def _linear_below(value: ir.Value | None) -> ir.Value | None:
    """The one linear that a short chain of pointwise operators starts from (SiLU is x · sigmoid(x))."""
    for _ in range(8):
        node = None if value is None else value.producer()
        if value is None or node is None:
            return None
        if _is_linear(value):
            return value
        roots = [x for x in node.inputs if x is not None and not _graph.is_parameter(x)]
        if node.op_type not in ("Mul", "Sigmoid", "Gelu", "QuickGelu", "Tanh", "Relu", "Erf", "Add", "Pow", "Div"):
            return None
        value = next((x for x in roots if _is_linear(x)), roots[0] if roots else None)
    return None


def _is_linear(value: ir.Value) -> bool:
    return _graph.is_op(value.producer(), "MatMulNBits", _graph.MICROSOFT)


def _joined(outputs: Sequence[ir.Value], joins: list[Join]) -> ir.Value | None:
    """One linear for several that read one value; ``None`` when they cannot be joined."""
    nodes = [value.producer() for value in outputs]
    linears = [n for n in nodes if n is not None and _graph.is_op(n, "MatMulNBits", _graph.MICROSOFT)]
    if len(linears) != len(outputs) or len({n.inputs[0] for n in linears}) != 1:
        return None
    if len({tuple(n.attributes[a].as_int() for a in _FORMAT) for n in linears}) != 1:
        return None
    biases = [n.inputs[_BIAS] if len(n.inputs) > _BIAS else None for n in linears]
    if len({b is None for b in biases}) != 1 or len(set(linears)) != len(linears):
        return None
    graph = linears[0].graph
    assert graph is not None
    columns = [[n.inputs[i] for n in linears] for i in (1, 2)] + ([biases] if biases[0] is not None else [])
    if not all(_graph.is_parameter(x) and x.uses() and len(x.uses()) == 1 for c in columns for x in c if x):
        return None
    made = [join(graph, [x for x in column if x is not None]) for column in columns]
    joins.extend(made)
    rows = sum(n.attributes["N"].as_int() for n in linears)
    inputs = [linears[0].inputs[0], made[0].value, made[1].value, None, None, *(m.value for m in made[2:])]
    inputs = inputs if made[2:] else inputs[:3]
    attributes = [ir.AttrInt64(name, linears[0].attributes[name].as_int()) for name in _FORMAT]
    node = ir.Node(_graph.MICROSOFT, "MatMulNBits", inputs, [ir.AttrInt64("N", rows), *attributes], num_outputs=1)
    shape = outputs[0].shape
    node.outputs[0].shape = None if shape is None else ir.Shape([*shape[:-1], rows])
    node.outputs[0].type = outputs[0].type
    first = min(linears, key=graph.index)
    graph.insert_before(first, node)
    return node.outputs[0]
