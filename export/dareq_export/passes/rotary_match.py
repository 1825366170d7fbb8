"""What a rotary embedding looks like after capture, found from its result upwards.

x * cos + concat(-x[h:], x[:h]) * sin over the last axis, as transformers' ``apply_rotary_pos_emb`` writes it, on all
of a head or on its first channels with the rest concatenated unchanged. cos and sin are Cos and Sin of
concat(angles, angles), perhaps times a constant (yarn's attention factor). Interleaved forms do not match.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class Rotation:
    """One rotary embedding.

    Attributes:
        source: What is rotated, [B, H, S, D].
        angles: Angle of every pair, [B, S, R/2], float32.
        factor: What cos and sin are multiplied by.
        width: R, the channels that are rotated, the first of D.
    """

    source: ir.Value
    angles: ir.Value
    factor: float
    width: int


def rotation_above(value: ir.Value | None) -> Rotation | None:
    """The rotary embedding whose result ``value`` [B, H, S, D] is, if it is one."""
    whole = _rotation_of_all(value)
    if whole is not None:
        return whole
    concat = _node(value, "Concat", 2)
    if concat is None or concat.attributes.get_int("axis") not in (-1, 3):
        return None
    part, rest = _rotation_of_all(concat.inputs[0]), _slice(concat.inputs[1])
    first = None if part is None else _slice(part.source)
    if part is None or rest is None or first is None or rest[0] is not first[0]:
        return None
    source, width = first[0], part.width
    if first[1:] != (0, width) or rest[1:] != (width, _size(source)):
        return None
    return Rotation(source, part.angles, part.factor, width)


def _rotation_of_all(value: ir.Value | None) -> Rotation | None:
    total = _node(value, "Add", 2)
    products = [] if total is None else [_node(v, "Mul", 2) for v in total.inputs]
    for kept, turned in (products, products[::-1]) if products else ():
        found = None if kept is None or turned is None else _pair(kept, turned)
        if found is not None:
            return found
    return None


def _pair(kept: ir.Node, turned: ir.Node) -> Rotation | None:
    """Read ``kept`` as x * cos and ``turned`` as rotate_half(x) * sin, each in either order."""
    for x, cos in (kept.inputs, kept.inputs[::-1]):
        for half, sin in (turned.inputs, turned.inputs[::-1]):
            if x is None or _half_turn_of(half) is not x:
                continue
            angle, other = _angles(cos, "Cos"), _angles(sin, "Sin")
            if angle is not None and angle == other and _fits(x, angle[0]):
                return Rotation(x, *angle, _size(x))
    return None


def _half_turn_of(value: ir.Value | None) -> ir.Value | None:
    """The x of which ``value`` is concat(-x[h:], x[:h])."""
    concat = _node(value, "Concat", 2)
    if concat is None or concat.attributes.get_int("axis") not in (-1, 3):
        return None
    negated = _node(concat.inputs[0], "Neg", 1)
    low, high = _slice(concat.inputs[1]), _slice(None if negated is None else negated.inputs[0])
    if low is None or high is None or low[0] is not high[0]:
        return None
    size = _size(low[0])
    half = size // 2
    return low[0] if size == 2 * half and (low[1:], high[1:]) == ((0, half), (half, size)) else None


def _angles(value: ir.Value | None, function: str) -> tuple[ir.Value, float] | None:
    """(angles [B, S, R/2], factor) of a cos or sin [B, 1, S, R]."""
    factor, unsqueezed = 1.0, False
    while (node := None if value is None else value.producer()) is not None and node.domain == "":
        if node.op_type == "Unsqueeze" and not unsqueezed and _constant(node.inputs[1]) == 1:
            value, unsqueezed = node.inputs[0], True
        elif node.op_type == "Mul" and (other := _times_constant(node)) is not None:
            value, factor = other[0], factor * other[1]
        else:
            break
    called = _node(value, function, 1)
    doubled = None if called is None else _node(called.inputs[0], "Concat", 2)
    if doubled is None or not unsqueezed or doubled.inputs[0] is not doubled.inputs[1]:
        return None
    angles = doubled.inputs[0]
    if angles is None or doubled.attributes.get_int("axis") not in (-1, 2):
        return None
    return angles, factor


def _fits(x: ir.Value, angles: ir.Value) -> bool:
    """Whether x is [B, H, S, R] and angles are [B, S, R/2], both float32, with the same B and S."""
    if x.shape is None or angles.shape is None or len(x.shape) != 4 or len(angles.shape) != 3:
        return False
    same = x.shape[0] == angles.shape[0] and x.shape[2] == angles.shape[1]
    floats = x.dtype == angles.dtype == ir.DataType.FLOAT
    return same and floats and isinstance(x.shape[1], int) and angles.shape[2] * 2 == _size(x) > 0


def _size(value: ir.Value) -> int:
    """Size of the last axis; 0 if it is not known."""
    size = value.shape[-1] if value.shape is not None and len(value.shape) else 0
    return size if isinstance(size, int) else 0


def _slice(value: ir.Value | None) -> tuple[ir.Value, int, int] | None:
    """(x, start, end) if ``value`` is x[..., start:end] of a 4-D x with a known last axis."""
    node = _node(value, "Slice", 5)
    if node is None or node.inputs[0] is None:
        return None
    source, size = node.inputs[0], _size(node.inputs[0])
    start, end, axis, step = (_constant(v) for v in node.inputs[1:])
    if size == 0 or start is None or end is None or axis not in (-1, 3) or step != 1 or start < 0 or end < 0:
        return None
    return source, int(start), int(min(end, size))


def _times_constant(node: ir.Node) -> tuple[ir.Value, float] | None:
    for value, factor in (node.inputs, node.inputs[::-1]):
        number = _constant(factor)
        if value is not None and number is not None:
            return value, number
    return None


def _constant(value: ir.Value | None) -> float | None:
    """The number a constant of one element holds."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return tensor.numpy().item() if tensor is not None and tensor.size == 1 else None


def _node(value: ir.Value | None, op_type: str, inputs: int) -> ir.Node | None:
    """The node of ONNX's own domain that makes ``value``, if it is of this type and has this many inputs."""
    node = None if value is None else value.producer()
    fits = node is not None and node.domain == "" and node.op_type == op_type and len(node.inputs) == inputs
    return node if fits else None
