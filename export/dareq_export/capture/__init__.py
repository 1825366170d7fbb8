"""HF config + plan → onnx_ir.Model with contrib operators and no weights (design decision D1).

The model's own transformers code runs once under torch.export with untouched memory for weights. Only this package
of dareq_export imports torch and transformers.
"""

from __future__ import annotations

from dareq_export.capture.tokenizer import write_fast_tokenizer
from dareq_export.capture.trace import Captured, cache_shape, capture, read_config

__all__ = ["Captured", "cache_shape", "capture", "read_config", "write_fast_tokenizer"]
