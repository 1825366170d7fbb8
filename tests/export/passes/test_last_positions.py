from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from dareq_edge.errors import ExportError
from dareq_export.passes import LastPositionsPass
from pass_graphs import H, compute, floats, graph, linear, ops

V = 32


def headed(kind: str) -> ir.Model:
    """A head over x [2, 3, H]: MatMulNBits, the same with a soft cap, a float Gemm, or no linear at all."""
    rng = np.random.default_rng(0)
    inputs, outputs = [floats("x", 2, 3, H)], [floats("logits", 2, 3, V)]
    if kind == "float":
        nodes = [
            helper.make_node("Reshape", ["x", "rows"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w"], ["product"], transB=1),
            helper.make_node("Reshape", ["product", "whole"], ["logits"]),
        ]
        weights = {
            "rows": np.array([-1, H]),
            "whole": np.array([2, 3, V]),
            "w": rng.standard_normal((V, H)).astype(np.float32),
        }
        return graph(nodes, inputs, outputs, weights)
    if kind == "none":
        return graph([helper.make_node("Concat", ["x", "x"], ["logits"], axis=-1)], inputs, outputs, {})
    head, weights = linear("lm_head", "x", "raw" if kind == "capped" else "logits", V, H, rng, bias=False)
    cap = [helper.make_node("Div", ["raw", "c"], ["d"]), helper.make_node("Tanh", ["d"], ["logits"])]
    nodes = [head, *(cap if kind == "capped" else [])]
    return graph(nodes, inputs, outputs, weights | {"c": np.float32([3.0])}, {"raw": [2, 3, V], "d": [2, 3, V]})


@pytest.mark.parametrize("kind", ["plain", "capped", "float"])
def test_the_last_k_positions_have_the_logits_they_had(kind: str) -> None:
    model = headed(kind)
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 3, H)).astype(np.float32)}
    whole = compute(model, feeds)[0]
    LastPositionsPass()(model)
    assert ops(model)["Slice"] == 1
    np.testing.assert_array_equal(compute(model, feeds)[0], whole)  # not fed: all positions
    for k in (0, 1, 2, 3, 7):
        found = compute(model, feeds | {"num_logits_to_keep": np.array(k, np.int64)})[0]
        np.testing.assert_allclose(found, whole[:, -k:] if k else whole, rtol=0, atol=1e-6 * np.abs(whole).max())


def test_logits_that_no_linear_layer_makes_are_an_error() -> None:
    with pytest.raises(ExportError, match="Concat"):
        LastPositionsPass()(headed("none"))
