"""Hand-made graphs for the tests of passes, and what they compute."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

H, FFN, HEADS, WIDTH = 16, 32, 2, 8  # GroupQueryAttention wants heads of a multiple of 8
DOMAIN = "com.microsoft"


def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def graph(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, NDArray],
    shapes: dict[str, list[int]] | None = None,
) -> ir.Model:
    """A model with every intermediate shape known, as the exporter leaves it; ``shapes``: what onnx cannot infer."""
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    made = helper.make_model(
        helper.make_graph(
            nodes, "g", inputs, outputs, initializers, value_info=[floats(n, *s) for n, s in (shapes or {}).items()]
        ),
        opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid(DOMAIN, 1)],
        ir_version=10,
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(made))


def ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def compute(model: ir.Model, feeds: dict[str, NDArray]) -> list[NDArray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    return session.run(None, feeds)


def linear(
    name: str, x: str, y: str, n: int, k: int, rng: np.random.Generator, *, bias: bool = True, block: int = 16
):
    """A MatMulNBits node and its constants."""
    constants = {
        f"{name}.qweight": rng.integers(0, 256, (n, k // block, block // 2), dtype=np.uint8),
        f"{name}.scales": rng.uniform(0.01, 0.1, (n, k // block)).astype(np.float32),
    } | ({f"{name}.bias": rng.standard_normal(n).astype(np.float32)} if bias else {})
    inputs = [x, f"{name}.qweight", f"{name}.scales", *(["", "", f"{name}.bias"] if bias else [])]
    attributes = {"K": k, "N": n, "bits": 4, "block_size": block, "accuracy_level": 1}
    return helper.make_node("MatMulNBits", inputs, [y], domain=DOMAIN, **attributes), constants
