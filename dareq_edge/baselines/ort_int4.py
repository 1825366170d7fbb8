"""onnxruntime's own 4-bit quantizer, as its users call it: blocks of 32, symmetric, int8 compute.

It quantizes the MatMul nodes whose second input is a constant and leaves every other node as it is, without an
error: optimum writes OPT's fc1 and fc2 as Gemm, and, where it keeps one copy of tied weights, the head's as a
Transpose of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

BLOCK_SIZE = 32
_VIEWS = {"Transpose", "Identity"}


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many constant matrices the quantizer took.

    Attributes:
        quantized: Of them.
        matrices: All that are multiplied by, each use counted.
    """

    quantized: int
    matrices: int


def quantize(model: Path, out: Path) -> Coverage:
    """Quantize ``model`` into ``out``/model.onnx.

    Args:
        model: A float ONNX file.
        out: Existing folder.
    """
    total = count_matrices(onnx.load(model, load_external_data=False).graph)
    quantizer = MatMulNBitsQuantizer(str(model), block_size=BLOCK_SIZE, is_symmetric=True, accuracy_level=4)
    quantizer.process()
    quantizer.model.save_model_to_file(str(out / "model.onnx"), use_external_data_format=True)
    done = sum(node.op_type == "MatMulNBits" for node in quantizer.model.model.graph.node)
    return Coverage(done, total)


def count_matrices(graph: onnx.GraphProto) -> int:
    """MatMul and Gemm nodes whose second input is a constant, or a constant transposed."""
    constants = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    count = 0
    for node in graph.node:
        if node.op_type in _VIEWS and node.input[0] in constants:
            constants.add(node.output[0])
        elif node.op_type in ("MatMul", "Gemm"):
            count += node.input[1] in constants
    return count
