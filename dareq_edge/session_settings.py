"""What a client must set on onnxruntime's SessionOptions to run a graph as it was meant. Standard library only.

A folder's dareq.json carries one ``SessionSettings`` per compute level, so that no client has to know which form the
weights have. In onnxruntime-web the entries go under ``extra``: "session.disable_quant_qdq": "1" becomes
``extra: {session: {disable_quant_qdq: "1"}}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dareq_edge.errors import ArtifactError

OPTIMIZATIONS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_LAYOUT", "ORT_ENABLE_ALL")

ENTRIES = frozenset(
    {
        "optimization.disable_specified_optimizers",
        "session.disable_prepacking",
        "session.disable_quant_qdq",
        "session.intra_op.allow_spinning",
        "session.qdq_matmulnbits_accuracy_level",
        "session.qdq_matmulnbits_block_size",
        "session.use_memory_mapped_ort_model",
        "session.use_ort_model_bytes_for_initializers",
    }
)
"""What a folder may set. onnxruntime knows others that read files elsewhere, or write them."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Settings for one compute level.

    Attributes:
        optimization: Name of onnxruntime's ``GraphOptimizationLevel``.
        entries: Key -> value for ``SessionOptions.add_session_config_entry``.
    """

    optimization: str
    entries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SessionSettings:
        """From its record in dareq.json.

        Raises:
            ArtifactError: The level is unknown, or an entry is none of ``ENTRIES`` or no text.
        """
        level, entries = data["optimization"], data["entries"]
        unknown = sorted(set(entries) - ENTRIES)
        if unknown:
            raise ArtifactError(f"session entry {unknown[0]!r} is none that dareq-edge sets; export the folder again")
        if level not in OPTIMIZATIONS:
            raise ArtifactError(f"optimization is {level!r}; use {', '.join(OPTIMIZATIONS)}")
        wrong = [k for k, v in entries.items() if not isinstance(v, str)]
        if wrong:
            raise ArtifactError(f"session entry {wrong[0]!r} is {entries[wrong[0]]!r}, not text; export again")
        return cls(level, dict(entries))


NATIVE_SESSIONS: Mapping[str, SessionSettings] = {
    # The export leaves nothing to fuse: higher levels decode no faster, and would put a residual sum into its norm,
    # which is slower where they find one.
    "int8": SessionSettings("ORT_ENABLE_BASIC"),
    # Without packed weights MatMulNBits takes its path over dequantized ones: the same file, exact.
    "fp32": SessionSettings("ORT_ENABLE_BASIC", {"session.disable_prepacking": "1"}),
}
"""Of graphs with MatMulNBits, and of folders that are older than this record."""
