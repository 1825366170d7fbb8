"""dareq-edge: data-free quantization of causal language models in PyTorch, and the formats around it.

Importing this package imports the standard library only; names are resolved on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dareq_edge.hf import DareqConfig as DareqConfig
    from dareq_edge.nn import DAREQuantLinear as DAREQuantLinear
    from dareq_edge.qtensor import QuantizedTensor as QuantizedTensor
    from dareq_edge.quantize import quantize_checkpoint as quantize_checkpoint
    from dareq_edge.spec import QuantSpec as QuantSpec
    from dareq_edge.surgery import apply_dareq as apply_dareq

__version__ = "0.1.0"

_HOME = {
    "DAREQuantLinear": "dareq_edge.nn",
    "DareqConfig": "dareq_edge.hf",
    "QuantSpec": "dareq_edge.spec",
    "QuantizedTensor": "dareq_edge.qtensor",
    "apply_dareq": "dareq_edge.surgery",
    "quantize_checkpoint": "dareq_edge.quantize",
}

__all__ = ["DAREQuantLinear", "DareqConfig", "QuantSpec", "QuantizedTensor", "apply_dareq", "quantize_checkpoint"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
