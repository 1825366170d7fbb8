from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper
from onnx_ir.passes import common

from dareq_export.passes import FlatRegionsPass
from pass_graphs import FFN, H, compute, floats, graph, linear, ops


def block(*, back: str = "x", tap: bool = False) -> ir.Model:
    """OPT's feed-forward block: flattened, normed, two linears, residual, and back to the shape of ``back``."""
    rng = np.random.default_rng(0)
    up, w1 = linear("up", "normed", "wide", FFN, H, rng)
    down, w2 = linear("down", "active", "narrow", H, FFN, rng)
    nodes = [
        helper.make_node("Reshape", ["x", "flat_shape"], ["flat"]),
        helper.make_node("LayerNormalization", ["flat", "gamma", "beta"], ["normed"], axis=1),
        up,
        helper.make_node("Relu", ["wide"], ["active"]),
        down,
        helper.make_node("Add", ["flat", "narrow"], ["total"]),
        *([helper.make_node("Transpose", ["active"], ["tapped"], perm=[1, 0])] if tap else []),
        helper.make_node("Reshape", ["total", "whole_shape"], ["y"]),
    ]
    constants = w1 | w2 | {
        "flat_shape": np.array([-1, H]),
        "whole_shape": np.array([2, 3, H] if back == "x" else [3, 2, H]),
        "gamma": rng.standard_normal(H).astype(np.float32),
        "beta": rng.standard_normal(H).astype(np.float32),
    }  # fmt: skip
    outputs = [floats("y", *([2, 3, H] if back == "x" else [3, 2, H])), *([floats("tapped", FFN, 6)] if tap else [])]
    shapes = {"normed": [6, H], "wide": [6, FFN], "active": [6, FFN], "narrow": [6, H], "total": [6, H]}
    return graph(nodes, [floats("x", 2, 3, H)], outputs, constants, shapes)


def test_a_flattened_block_keeps_its_rank_and_its_numbers() -> None:
    model = block()
    x = {"x": np.random.default_rng(1).standard_normal((2, 3, H)).astype(np.float32)}
    wanted = compute(model, x)
    assert FlatRegionsPass()(model).modified
    common.RemoveUnusedNodesPass()(model)
    assert "Reshape" not in ops(model)
    np.testing.assert_array_equal(compute(model, x)[0], wanted[0])


@pytest.mark.parametrize("kind", [{"back": "other"}, {"tap": True}], ids=["another shape", "needs two dimensions"])
def test_a_region_that_is_not_closed_stays(kind: dict) -> None:
    model = block(**kind)
    before = ops(model)
    assert not FlatRegionsPass()(model).modified
    assert ops(model) == before
