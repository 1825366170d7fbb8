"""What a CPU's MatMulNBits kernels make of one product: their error, by activations and by the scales' precision.

    python -m examples.arm.kernels make out/kernels [--block 16]               # here; needs onnx
    python -m examples.arm.emulate --cpu cortex-a76 examples/arm/kernels.py run out/kernels
    python -m examples.arm.emulate --cpu cortex-a76 examples/arm/kernels.py run out/kernels mlas.disable_kleidiai=1

Every figure is the RMS error of the outputs over their RMS, against float64 with the scales as stored. The weights
are normal, one scale per row of 512, in blocks of 256; activations are normal ones, normal ones with one channel
fifty times as large, and normal ones through a ReLU, as OPT's fc2 sees them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

N, K, ROWS = 256, 512, 64
SCALES = ("bfloat16", "float32")


def activations() -> dict[str, Any]:
    """float32 [ROWS, K] by name."""
    normal = np.random.default_rng(1).standard_normal((ROWS, K)).astype(np.float32)
    outlier = normal.copy()
    outlier[:, 7] *= 50
    return {"normal": normal, "one outlier": outlier, "ReLU": np.maximum(normal, 0)}


def weights(bits: int, scale_dtype: str) -> tuple[Any, Any]:
    """Codes, uint8 [N, K], and scales, float32 [N, 1]; bfloat16 ones are cut, not rounded, which is as good here."""
    w = np.random.default_rng(2).standard_normal((N, K)).astype(np.float32)
    scales = np.abs(w).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 1)
    if scale_dtype == "bfloat16":
        scales = (scales.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    zero = 2 ** (bits - 1)
    return np.clip(np.round(w / scales) + zero, 0, 2 * zero - 1).astype(np.uint8), scales


def make(folder: Path, block: int) -> None:
    """One graph for each combination of bits and scales."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    for bits in (4, 8):
        for name in SCALES:
            codes, scales = weights(bits, name)
            packed = codes if bits == 8 else codes[:, 0::2] | codes[:, 1::2] << 4
            blocks = {
                "B": packed.reshape(N, K // block, block * bits // 8),
                "S": np.repeat(scales, K // block, axis=1),
            }
            options: dict[str, Any] = {"K": K, "N": N, "bits": bits, "block_size": block, "accuracy_level": 4}
            node = helper.make_node("MatMulNBits", ["A", "B", "S"], ["Y"], domain="com.microsoft", **options)
            inputs, outputs = (
                [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["M", width])]
                for n, width in (("A", K), ("Y", N))
            )
            initializers = [numpy_helper.from_array(value, key) for key, value in blocks.items()]
            graph = helper.make_graph([node], "product", inputs, outputs, initializers)
            opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
            onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / f"{bits}.{name}.onnx")


def run(folder: Path, entries: dict[str, str]) -> None:
    """Print the table; needs numpy and onnxruntime only."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    print("| bits | scales |", " | ".join(activations()), "|\n|---|---|---|---|---|")
    for bits in (4, 8):
        for name in SCALES:
            graph = str(folder / f"{bits}.{name}.onnx")
            session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            codes, scales = weights(bits, name)
            exact = (codes.astype(np.float64) - 2 ** (bits - 1)) * scales
            errors = []
            for x in activations().values():
                wanted = x.astype(np.float64) @ exact.T
                gap = session.run(None, {"A": x})[0] - wanted
                errors.append(f"{np.sqrt(np.square(gap).mean() / np.square(wanted).mean()):.1e}")
            print("|", " | ".join([str(bits), name, *errors]), "|")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["make", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("entries", nargs="*", help="entries of the session's configuration, KEY=VALUE")
    parser.add_argument("--block", type=int, default=256, help="make: weights that share a scale in the graph")
    given = parser.parse_args()
    if given.action == "make":
        make(given.folder, given.block)
    else:
        run(given.folder, dict(entry.split("=", 1) for entry in given.entries))
    return 0


if __name__ == "__main__":
    sys.exit(main())
