from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper
from onnx_ir.passes import common

import tolerances
from dareq_export.joins import Join, joined_name
from dareq_export.passes import JoinedAttentionPass, JoinedGatePass, QueryScalePass
from pass_graphs import DOMAIN, HEADS, WIDTH, H, compute, floats, graph, linear, ops


def attention(
    *,
    blocks: tuple[int, int, int] = (16, 16, 16),
    biases: tuple[bool, bool, bool] = (True,) * 3,
    rotary: bool = False,
) -> ir.Model:
    """Three linears of one input into GroupQueryAttention, queries multiplied by a half, or both rotated, first."""
    rng = np.random.default_rng(0)
    made = [
        linear(f"attn.{n}_proj", "x", n, H, H, rng, bias=b, block=k)
        for n, b, k in zip("qkv", biases, blocks, strict=True)
    ]
    nodes = [node for node, _ in made]
    if rotary:
        tables = ["rows", "cos", "sin"]
        nodes.append(helper.make_node("RotaryEmbedding", ["q", *tables], ["scaled"], domain=DOMAIN))
        nodes.append(helper.make_node("RotaryEmbedding", ["k", *tables], ["turned"], domain=DOMAIN))
    else:
        nodes.append(helper.make_node("Mul", ["q", "half"], ["scaled"]))
    heads = ["scaled", "turned" if rotary else "k", "v"]
    nodes.append(
        helper.make_node(
            "GroupQueryAttention", [*heads, "pk", "pv", "seqlens", "total"], ["y", "nk", "nv"],
            domain=DOMAIN, num_heads=HEADS, kv_num_heads=HEADS, scale=0.5, do_rotary=0,
        )
    )  # fmt: skip
    cache = [floats(n, 1, HEADS, t, WIDTH) for n, t in (("pk", 2), ("pv", 2), ("nk", 5), ("nv", 5))]
    constants: dict = {"half": np.array(0.5, np.float32), "total": np.array(5, np.int32)}
    if rotary:
        angles = rng.uniform(0, 3, (3, WIDTH // 2)).astype(np.float32)
        constants |= {"rows": np.arange(3)[None], "cos": np.cos(angles), "sin": np.sin(angles)}
    for _, weights in made:
        constants |= weights
    seqlens = helper.make_tensor_value_info("seqlens", TensorProto.INT32, [1])
    inputs = [floats("x", 1, 3, H), *cache[:2], seqlens]
    shapes = {name: [1, 3, H] for name in ("q", "k", "v", "scaled", *(["turned"] if rotary else []))}
    return graph(nodes, inputs, [floats("y", 1, 3, H), *cache[2:]], constants, shapes)


def as_parameters(model: ir.Model) -> dict[str, np.ndarray]:
    """Make weights graph inputs, as the export does; returns their values."""
    values = {
        n: v for n, v in model.graph.initializers.items() if n.rpartition(".")[2] in ("qweight", "scales", "bias")
    }
    arrays = {}
    for name, value in values.items():
        arrays[name] = value.const_value.numpy()
        del model.graph.initializers[name]
        value.const_value = None
        model.graph.inputs.append(value)
    return arrays


def bound(model: ir.Model, arrays: dict[str, np.ndarray], joins: list[Join]) -> ir.Model:
    """The parameters as initializers again, joined ones row under row."""
    whole = arrays | {str(j.value.name): np.concatenate([arrays[p] for p in j.parts]) for j in joins}
    for value in list(model.graph.inputs):
        if value.name in whole:
            model.graph.inputs.remove(value)
            if value.uses():
                value.const_value = ir.tensor(whole[value.name], name=value.name)
                model.graph.initializers[value.name] = value
    return model


FEEDS = {
    "x": np.random.default_rng(1).standard_normal((1, 3, H)).astype(np.float32),
    "pk": np.random.default_rng(2).standard_normal((1, HEADS, 2, WIDTH)).astype(np.float32),
    "pv": np.random.default_rng(3).standard_normal((1, HEADS, 2, WIDTH)).astype(np.float32),
    "seqlens": np.array([4], np.int32),
}


def test_attention_reads_one_packed_projection_and_its_own_scale() -> None:
    model = attention()
    wanted = compute(model, FEEDS)
    arrays, joins = as_parameters(model), []
    assert QueryScalePass()(model).modified
    assert JoinedAttentionPass(joins)(model).modified
    common.RemoveUnusedNodesPass()(model)
    assert ops(model) == {"MatMulNBits": 1, "GroupQueryAttention": 1}
    assert [j.value.name for j in joins] == [f"attn.q_proj+k_proj+v_proj.{k}" for k in ("qweight", "scales", "bias")]
    for found, value in zip(compute(bound(model, arrays, joins), FEEDS), wanted, strict=True):
        assert np.abs(found - value).max() <= tolerances.KERNEL_FP32 * np.abs(value).max()


def test_rotated_queries_and_keys_come_from_one_projection_that_is_split() -> None:
    model = attention(rotary=True)
    wanted = compute(model, FEEDS)
    arrays, joins = as_parameters(model), []
    assert JoinedAttentionPass(joins)(model).modified
    common.RemoveUnusedNodesPass()(model)
    assert ops(model) == {"MatMulNBits": 1, "Split": 1, "RotaryEmbedding": 2, "GroupQueryAttention": 1}
    for found, value in zip(compute(bound(model, arrays, joins), FEEDS), wanted, strict=True):
        assert np.abs(found - value).max() <= tolerances.KERNEL_FP32 * np.abs(value).max()


@pytest.mark.parametrize(
    "kind", [{"blocks": (16, 16, 8)}, {"biases": (True, True, False)}], ids=["block sizes", "biases"]
)
def test_linears_of_different_formats_stay_apart(kind: dict) -> None:
    model = attention(**kind)
    as_parameters(model)
    joins: list[Join] = []
    QueryScalePass()(model)
    assert not JoinedAttentionPass(joins)(model).modified
    assert not joins
    assert ops(model)["MatMulNBits"] == 3


def gated(*, other: bool = False) -> ir.Model:
    """silu(gate(x)) * up(x), or up of another value."""
    rng = np.random.default_rng(0)
    gate, w1 = linear("mlp.gate_proj", "x", "g", 32, H, rng, bias=False)
    up, w2 = linear("mlp.up_proj", "z" if other else "x", "u", 32, H, rng, bias=False)
    nodes = [
        gate,
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("Mul", ["g", "s"], ["silu"]),
        up,
        helper.make_node("Mul", ["silu", "u"], ["y"]),
    ]
    inputs = [floats("x", 1, 3, H), *([floats("z", 1, 3, H)] if other else [])]
    shapes = {name: [1, 3, 32] for name in ("g", "s", "silu", "u")}
    return graph(nodes, inputs, [floats("y", 1, 3, 32)], w1 | w2, shapes)


def test_gate_and_up_are_one_projection() -> None:
    model = gated()
    feeds = {"x": FEEDS["x"]}
    wanted = compute(model, feeds)
    arrays, joins = as_parameters(model), []
    assert JoinedGatePass(joins)(model).modified
    common.RemoveUnusedNodesPass()(model)
    assert ops(model) == {"MatMulNBits": 1, "Split": 1, "Sigmoid": 1, "Mul": 2}
    found = compute(bound(model, arrays, joins), feeds)
    assert np.abs(found[0] - wanted[0]).max() <= tolerances.KERNEL_FP32 * np.abs(wanted[0]).max()


def test_linears_of_different_inputs_are_not_joined() -> None:
    model = gated(other=True)
    as_parameters(model)
    assert not JoinedGatePass([])(model).modified


def test_a_model_that_was_packed_all_along_is_not_split() -> None:
    rng = np.random.default_rng(0)
    node, weights = linear("attn.c_attn", "x", "qkv", 3 * H, H, rng)
    split = helper.make_node("Split", ["qkv", "sizes"], ["q", "k", "v"], axis=-1)
    attend = helper.make_node(
        "GroupQueryAttention", ["q", "k", "v", "pk", "pv", "seqlens", "total"], ["y", "nk", "nv"],
        domain=DOMAIN, num_heads=HEADS, kv_num_heads=HEADS, scale=0.5, do_rotary=0,
    )  # fmt: skip
    cache = [floats(n, 1, HEADS, t, WIDTH) for n, t in (("pk", 2), ("pv", 2), ("nk", 5), ("nv", 5))]
    seqlens = helper.make_tensor_value_info("seqlens", TensorProto.INT32, [1])
    constants = weights | {"sizes": np.array([H, H, H]), "total": np.array(5, np.int32)}
    inputs = [floats("x", 1, 3, H), *cache[:2], seqlens]
    model = graph([node, split, attend], inputs, [floats("y", 1, 3, H), *cache[2:]], constants)
    wanted = compute(model, FEEDS)
    assert JoinedAttentionPass([])(model).modified
    common.RemoveUnusedNodesPass()(model)
    assert ops(model) == {"MatMulNBits": 1, "GroupQueryAttention": 1}
    for found, value in zip(compute(model, FEEDS), wanted, strict=True):
        np.testing.assert_array_equal(found, value)


def test_joined_names_say_what_was_joined() -> None:
    assert joined_name(["l.0.attn.q.qweight", "l.0.attn.k.qweight"]) == "l.0.attn.q+k.qweight"
    assert joined_name(["a.q.w", "a.kv.k.w"]) == "a.q.w+a.kv.k.w"
    assert joined_name(["a.key_q.w", "a.key_k.w"]) == "a.key_q+key_k.w"
