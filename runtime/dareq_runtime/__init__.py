"""Run, score and compare exported models with numpy, onnxruntime and tokenizers alone.

Importing this package imports the standard library only; names are resolved on first use (PEP 562).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dareq_runtime.generation import Generation as Generation
    from dareq_runtime.loading import load as load
    from dareq_runtime.model import OnnxModel as OnnxModel
    from dareq_runtime.parity import compare as compare
    from dareq_runtime.ranges import cache_ranges as cache_ranges
    from dareq_runtime.scorer import Scorer as Scorer
    from dareq_runtime.scoring import score as score
    from dareq_runtime.tokens import TokenSet as TokenSet
    from dareq_runtime.tokens import read_tokens as read_tokens
    from dareq_runtime.verdict import ParityReport as ParityReport
    from dareq_runtime.windows import make_protocol as make_protocol

_HOME = {
    "Generation": "dareq_runtime.generation",
    "OnnxModel": "dareq_runtime.model",
    "ParityReport": "dareq_runtime.verdict",
    "Scorer": "dareq_runtime.scorer",
    "TokenSet": "dareq_runtime.tokens",
    "cache_ranges": "dareq_runtime.ranges",
    "compare": "dareq_runtime.parity",
    "load": "dareq_runtime.loading",
    "make_protocol": "dareq_runtime.windows",
    "read_tokens": "dareq_runtime.tokens",
    "score": "dareq_runtime.scoring",
}

__all__ = [
    "Generation",
    "OnnxModel",
    "ParityReport",
    "Scorer",
    "TokenSet",
    "cache_ranges",
    "compare",
    "load",
    "make_protocol",
    "read_tokens",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
