"""RMSNorm becomes one operator where the scale is one number per channel, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import tolerances
from dareq_export.passes import RmsNormPass, StandardNormPass

C = 24


def decomposed(*, swap: bool = False, cast: bool = False, epsilon_input: bool = False, scale: list | None = None,
               axis: int = -1, tap: str | None = None) -> onnx.ModelProto:  # fmt: skip
    """What transformers' RMSNorm exports to, over x [b, s, C]; every argument changes one thing."""
    tensor = helper.make_tensor_value_info
    last = ["scale", "normed"]
    nodes = [helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT)] if cast else []
    x = "wide" if cast else "x"
    nodes += [
        helper.make_node("Pow", [x, "two"], ["squares"]),
        helper.make_node("ReduceMean", ["squares", "axes"], ["mean"], keepdims=1, noop_with_empty_axes=0),
        helper.make_node("Add", ["mean", "epsilon"], ["shifted"]),
        helper.make_node("Sqrt", ["shifted"], ["root"]),
        helper.make_node("Reciprocal", ["root"], ["inverse"]),
        helper.make_node("Mul", [x, "inverse"], ["normed"]),
        helper.make_node("Mul", last[::-1] if swap else last, ["y"]),
    ]
    inputs = [tensor("x", TensorProto.FLOAT, ["b", "s", C]), tensor("scale", TensorProto.FLOAT, scale or [C])]
    floats = {"two": 2.0} | ({} if epsilon_input else {"epsilon": 1e-5})
    constants = [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in floats.items()]
    constants.append(helper.make_tensor("axes", TensorProto.INT64, [1], [axis]))
    inputs += [tensor("epsilon", TensorProto.FLOAT, [])] if epsilon_input else []
    outputs = [tensor("y", TensorProto.FLOAT, ["b", "s", C])]
    outputs += [tensor(tap, TensorProto.FLOAT, None)] if tap else []
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def apply(model: onnx.ModelProto, *passes: ir.passes.InPlacePass) -> onnx.ModelProto:
    loaded = ir.serde.deserialize_model(model)
    for step in passes:
        step(loaded)
    return ir.serde.serialize_model(loaded)


def types(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("change", [{}, {"swap": True}, {"cast": True}])
@pytest.mark.parametrize("standard", [False, True])
@pytest.mark.parametrize(
    "level", [ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL]
)
def test_fused_norm_computes_the_same(change: dict, standard: bool, level: ort.GraphOptimizationLevel) -> None:
    model = apply(decomposed(**change), RmsNormPass(), *([StandardNormPass()] if standard else []))
    assert types(model) == ["RMSNormalization" if standard else "SimplifiedLayerNormalization"]
    attributes = {a.name: helper.get_attribute_value(a) for a in model.graph.node[0].attribute}
    assert attributes == {"axis": -1, "epsilon": np.float32(1e-5), "stash_type": 1}
    rng = np.random.default_rng(0)
    x, scale = rng.standard_normal((2, 3, C)).astype(np.float32), rng.standard_normal(C).astype(np.float32)
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    (found,) = ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x, "scale": scale})
    wide = x.astype(np.float64)
    wanted = scale * wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(found, wanted, atol=tolerances.RMS_NORM)


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon_input": True},
        {"scale": ["b", "s", C]},  # a gate, not a scale
        {"scale": [1]},
        {"axis": 1},
        {"tap": "inverse"},  # somebody else reads the reciprocal
    ],
)
def test_what_the_operator_cannot_express_stays(change: dict) -> None:
    model = decomposed(**change)
    assert types(apply(model, RmsNormPass(), StandardNormPass())) == types(model)


def test_only_the_standard_form_passes_the_checker(tmp_path: Path) -> None:
    fused = apply(decomposed(), RmsNormPass())
    with pytest.raises(onnx.checker.ValidationError, match="SimplifiedLayerNormalization"):
        onnx.checker.check_model(fused)
    standard = apply(fused, StandardNormPass())
    onnx.checker.check_model(standard)
    assert {o.domain: o.version for o in standard.opset_import}[""] == 23


def test_without_norms_the_opset_stays() -> None:
    model = apply(decomposed(epsilon_input=True), StandardNormPass())
    assert {o.domain: o.version for o in model.opset_import}[""] == 21
