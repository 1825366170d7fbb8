"""dareq_export: a quantized checkpoint → a folder with a MatMulNBits graph that onnxruntime clients open."""

from __future__ import annotations

from dareq_export.export import export_onnx

__all__ = ["export_onnx"]
