"""The bytes of MatMulNBits and GatherBlockQuantized: golden values, and onnxruntime's kernels as the reference."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import tolerances
from dareq_edge.kernel_layout import BlockLayout, choose_layout
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec
from dareq_export.layout import lower


def random_tensor(n: int, k: int, spec: QuantSpec, seed: int = 0) -> QuantizedTensor:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << spec.bits, (n, k), dtype=np.uint8)
    scales = rng.uniform(0.01, 0.1, (n, spec.groups(k))) * rng.choice([-1, 1], (n, spec.groups(k)))
    return QuantizedTensor(codes, scales.astype(np.float32), spec)


def run_node(
    op: str, data: np.ndarray, layout: BlockLayout, tensor: QuantizedTensor, *, level: int = 4, prepack: bool = False
) -> np.ndarray:
    """One contrib node in onnxruntime, as the graph would hold it; without prepacking every level is fp32 compute."""
    codes, scales = lower(tensor, layout)
    attrs = {"bits": layout.bits, "block_size": layout.block_size}
    if op == "MatMulNBits":
        names, out = ["x", "b", "s"], [len(data), layout.n]
        attrs |= {"K": layout.k, "N": layout.n, "accuracy_level": level}
    else:
        names, out = ["b", "x", "s"], [len(data), layout.padded_k]
        codes = codes.reshape(layout.gather_shape)
        attrs |= {"gather_axis": 0, "quantize_axis": 1}
    kind = TensorProto.FLOAT if op == "MatMulNBits" else TensorProto.INT64
    node = helper.make_node(op, names, ["y"], domain="com.microsoft", **attrs)
    constants = [onnx.numpy_helper.from_array(codes, "b"), onnx.numpy_helper.from_array(scales, "s")]
    inputs = [helper.make_tensor_value_info("x", kind, list(data.shape))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
    return ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": data})[0]


def test_golden_bytes_of_a_padded_row() -> None:
    tensor = QuantizedTensor(
        np.array([[1, 2, 3, 4] * 4 + [5]], dtype=np.uint8), np.array([[0.5]], dtype=np.float32), QuantSpec()
    )
    codes, scales = lower(tensor, BlockLayout(1, 17, 4, 16))
    assert codes.tolist() == [[[0x21, 0x43] * 4, [0x85, *[0x88] * 7]]]
    assert scales.tolist() == [[0.5, 0.5]]


def test_three_bit_codes_are_recentred_in_a_four_bit_container() -> None:
    tensor = QuantizedTensor(
        np.array([[0, 4, 7, 4] * 4], dtype=np.uint8), np.array([[1.0]], dtype=np.float32), QuantSpec(bits=3)
    )
    codes, _ = lower(tensor, BlockLayout(1, 16, 4, 16))
    assert codes.tolist() == [[[0x84, 0x8B] * 4]]


@pytest.mark.parametrize(
    ("k", "block"),
    [(768, 256), (3072, 256), (512, 256), (128, 128), (64, 64), (96, 32), (172, 64), (80, 32), (8, 16)],
)
def test_per_channel_block_divides_k_or_costs_the_fewest_bytes(k: int, block: int) -> None:
    layout = choose_layout((4, k), QuantSpec())
    others = [BlockLayout(4, k, 4, size).nbytes for size in (16, 32, 64, 128, 256)]
    assert layout.block_size == block
    assert k % block == 0 or layout.nbytes == min(others)


@settings(max_examples=40, deadline=None)
@given(
    bits=st.integers(2, 8),
    group=st.sampled_from([None, 16, 32, 64, 128, 256]),
    k=st.sampled_from([16, 48, 64, 100, 172, 256, 300]),
    n=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_matmul_nbits_computes_the_dequantized_product(
    bits: int, group: int | None, k: int, n: int, seed: int
) -> None:
    tensor = random_tensor(n, k, QuantSpec(bits=bits, group_size=group), seed)
    x = np.random.default_rng(seed).standard_normal((3, k)).astype(np.float32)
    found = run_node("MatMulNBits", x, choose_layout(tensor.shape, tensor.spec), tensor)
    expected = x.astype(np.float64) @ tensor.dequantize().astype(np.float64).T
    assert np.abs(found - expected).max() <= tolerances.KERNEL_FP32 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize("level", [0, 1, 4])
@pytest.mark.parametrize("group", [None, 32, 64, 256])
@pytest.mark.parametrize("bits", [4, 8])
def test_prepacked_kernels_take_scales_of_either_sign(bits: int, group: int | None, level: int, rows: int) -> None:
    tensor = random_tensor(40, 512, QuantSpec(bits=bits, group_size=group), seed=rows)
    assert (tensor.scales < 0).any()
    assert (tensor.scales > 0).any()
    # Whole numbers up to 127, which every block contains: rounding activations to int8 changes nothing.
    x = np.random.default_rng(rows).integers(-127, 128, (rows, 512)).astype(np.float32)
    x[:, ::16] = 127
    layout = choose_layout(tensor.shape, tensor.spec)
    found = run_node("MatMulNBits", x, layout, tensor, level=level, prepack=True)
    expected = x.astype(np.float64) @ tensor.dequantize().astype(np.float64).T
    tolerance = tolerances.KERNEL_INT8 if level == 4 else tolerances.KERNEL_FP32
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
    mirrored = QuantizedTensor(tensor.codes, -tensor.scales, tensor.spec)
    np.testing.assert_array_equal(run_node("MatMulNBits", x, layout, mirrored, level=level, prepack=True), -found)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [None, 32])
@pytest.mark.parametrize("width", [96, 100])
def test_gather_block_quantized_returns_the_dequantized_rows_exactly(
    bits: int, group: int | None, width: int
) -> None:
    tensor = random_tensor(40, width, QuantSpec(bits=bits, group_size=group))
    ids = np.array([0, 39, 7, 7], dtype=np.int64)
    found = run_node("GatherBlockQuantized", ids, choose_layout(tensor.shape, tensor.spec), tensor)
    np.testing.assert_array_equal(found[:, :width], tensor.dequantize()[ids])
    assert not found[:, width:].any()
