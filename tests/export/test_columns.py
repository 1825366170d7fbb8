"""The bytes of DequantizeLinear over [K, N]: golden values, the way back, and onnxruntime as the reference."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec
from dareq_export.columns import (
    ColumnLayout,
    beside,
    column_layout,
    column_scales,
    pack_columns,
    unpack_columns,
)


def random_tensor(n: int, k: int, spec: QuantSpec, seed: int = 0) -> QuantizedTensor:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << spec.bits, (n, k), dtype=np.uint8)
    return QuantizedTensor(codes, rng.uniform(-0.1, 0.1, (n, spec.groups(k))).astype(np.float32), spec)


def coded(numbers: list[list[int]], bits: int = 4) -> QuantizedTensor:
    """A matrix [N, K] of signed numbers, scale 1."""
    spec = QuantSpec(bits=bits)
    codes = (np.array(numbers) + spec.zero_point).astype(np.uint8)
    return QuantizedTensor(codes, np.ones((len(codes), 1), np.float32), spec)


def test_golden_bytes_of_the_drawing() -> None:
    tensor = coded([[1, 4], [-2, 5], [3, -8]])
    assert pack_columns([tensor], ColumnLayout(3, 2, 4, None)).tobytes().hex() == "e14385"


def test_golden_bytes_of_eight_bits_are_twos_complement() -> None:
    tensor = coded([[1, -128], [-2, 127]], bits=8)
    assert pack_columns([tensor], ColumnLayout(2, 2, 8, None)).tobytes().hex() == "01fe807f"


def test_golden_bytes_of_a_lookup_begin_every_row_anew() -> None:
    tensor = coded([[1, 4], [-2, 5], [3, -8]])
    packed = pack_columns([tensor], ColumnLayout(3, 2, 4, None), lookup=True)
    assert packed.shape == ColumnLayout(3, 2, 4, None).lookup_shape
    assert packed.tobytes().hex() == "e1035408"


def test_three_bit_numbers_keep_their_value_in_a_four_bit_container() -> None:
    tensor = coded([[-4, 3]], bits=3)
    layout = column_layout((1, 2), tensor.spec)
    assert layout.bits == 4
    assert unpack_columns(pack_columns([tensor], layout), layout).tolist() == [[-4, 3]]


def test_columns_of_several_matrices_lie_side_by_side() -> None:
    first, second = coded([[1, 2], [3, 4]]), coded([[5, 6]])
    layout = beside([column_layout((2, 2), first.spec), column_layout((1, 2), second.spec)])
    assert layout == ColumnLayout(3, 2, 4, None)
    packed = pack_columns([first, second], layout)
    assert unpack_columns(packed, layout).tolist() == [[1, 2], [3, 4], [5, 6]]
    assert packed.tobytes().hex() == "312564"  # rows 1 3 5 and 2 4 6


def test_a_scale_per_column_is_repeated_where_the_other_matrix_has_groups() -> None:
    whole = QuantizedTensor(np.zeros((1, 64), np.uint8), np.array([[7.0]], np.float32), QuantSpec())
    groups = np.array([[1.0, 2.0]], np.float32)
    grouped = QuantizedTensor(np.zeros((1, 64), np.uint8), groups, QuantSpec(group_size=32))
    layout = beside([column_layout((1, 64), whole.spec), column_layout((1, 64), grouped.spec)])
    assert column_scales([whole, grouped], layout).tolist() == [[7.0, 1.0], [7.0, 2.0]]


def test_a_group_longer_than_the_row_is_one_scale_per_column() -> None:
    assert column_layout((4, 48), QuantSpec(group_size=64)) == ColumnLayout(4, 48, 4, None)


@settings(max_examples=60, deadline=None)
@given(bits=st.integers(2, 8), k=st.integers(1, 40), n=st.integers(1, 9), seed=st.integers(0, 1000))
def test_unpacking_gives_the_numbers_back(bits: int, k: int, n: int, seed: int) -> None:
    tensor = random_tensor(n, k, QuantSpec(bits=bits), seed)
    layout = column_layout((n, k), tensor.spec)
    packed = pack_columns([tensor], layout)
    assert packed.nbytes == -(-n * k * layout.bits // 8)
    numbers = tensor.codes.astype(np.int64) - tensor.spec.zero_point
    np.testing.assert_array_equal(unpack_columns(packed, layout), numbers)


@pytest.mark.parametrize("bits", [3, 4, 7, 8])
@pytest.mark.parametrize("group", [None, 16, 64])
@pytest.mark.parametrize("shape", [(6, 128), (7, 100)])
def test_dequantize_linear_gives_the_dequantized_weight(bits: int, group: int | None, shape: tuple[int, int]) -> None:
    tensor = random_tensor(*shape, QuantSpec(bits=bits, group_size=group))
    layout = column_layout(shape, tensor.spec)
    kind = TensorProto.INT4 if layout.bits == 4 else TensorProto.INT8
    attributes = {"axis": 1} if group is None else {"axis": 0, "block_size": group}
    node = helper.make_node("DequantizeLinear", ["w", "s"], ["y"], **attributes)
    weight = helper.make_tensor("w", kind, layout.shape, pack_columns([tensor], layout).tobytes(), raw=True)
    scales = numpy_helper.from_array(column_scales([tensor], layout), "s")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(layout.shape))
    graph = helper.make_graph([node], "g", [], [output], [weight, scales])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    found = ort.InferenceSession(model.SerializeToString()).run(None, {})[0]
    np.testing.assert_array_equal(found, tensor.dequantize().T)
