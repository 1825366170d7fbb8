"""Models that ``bench`` compares with, made the way their own tools make them; the only part that uses optimum."""

NAMES = ("fp32", "ort-int4")
"""fp32: optimum's ONNX export. ort-int4: onnxruntime's MatMulNBits quantizer on such an export."""
