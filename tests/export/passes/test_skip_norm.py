from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

import tolerances
from dareq_export.passes import SkipNormPass
from pass_graphs import H, compute, floats, graph, ops


def residual(norm: str, *, again: bool, broadcast: bool = False, axis: int = -1) -> ir.Model:
    """A sum that a norm reads and, ``again``, the graph as well."""
    rng = np.random.default_rng(0)
    weights = ["gamma", "beta"] if norm == "LayerNormalization" else ["gamma"]
    nodes = [
        helper.make_node("Add", ["x", "y"], ["s"]),
        helper.make_node(norm, ["s", *weights], ["n"], axis=axis, epsilon=1e-3),
        *([helper.make_node("Relu", ["s"], ["after"])] if again else []),
    ]
    constants = {name: rng.standard_normal(H).astype(np.float32) for name in weights}
    inputs = [floats("x", 2, 3, H), floats("y", *([1, 1, H] if broadcast else [2, 3, H]))]
    outputs = [floats("n", 2, 3, H), *([floats("after", 2, 3, H)] if again else [])]
    return graph(nodes, inputs, outputs, constants, {"s": [2, 3, H]})


@pytest.mark.parametrize("again", [False, True], ids=["post-LN", "pre-LN"])
@pytest.mark.parametrize("norm", ["LayerNormalization", "SimplifiedLayerNormalization"])
def test_the_sum_moves_into_the_norm(norm: str, again: bool) -> None:
    model = residual(norm, again=again)
    rng = np.random.default_rng(1)
    feeds = {name: rng.standard_normal((2, 3, H)).astype(np.float32) for name in "xy"}
    wanted = compute(model, feeds)
    assert SkipNormPass()(model).modified
    fused = "SkipLayerNormalization" if norm == "LayerNormalization" else "SkipSimplifiedLayerNormalization"
    assert ops(model)[fused] == 1
    assert not ops(model).keys() & {"Add", norm}
    for found, value in zip(compute(model, feeds), wanted, strict=True):
        assert np.abs(found - value).max() <= tolerances.FUSED_NORM * np.abs(value).max()


@pytest.mark.parametrize("kind", [{"broadcast": True}, {"axis": 1}], ids=["broadcast", "two axes"])
def test_what_the_operator_does_not_compute_stays(kind: dict) -> None:
    model = residual("LayerNormalization", again=False, **{k: v for k, v in kind.items() if k != "axis"})
    if "axis" in kind:
        next(n for n in model.graph if n.op_type == "LayerNormalization").attributes["axis"] = ir.AttrInt64("axis", 1)
    assert not SkipNormPass()(model).modified
