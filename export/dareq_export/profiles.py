"""Forms of an export: the operators that hold the weights, the names of files, what a session must be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, get_args

from dareq_edge.errors import SpecError
from dareq_edge.session_settings import NATIVE_SESSIONS, SessionSettings

ProfileName = Literal["native", "portable", "web"]
"""native: onnxruntime's own MatMulNBits. portable: DequantizeLinear and MatMul of the ONNX standard, for runtimes and
accelerators without it. web: the same with the file names that browsers' libraries look for."""

STANDARD_SESSIONS: Mapping[str, SessionSettings] = {
    # The level "extended" makes MatMulNBits of the standard operators; -1 is the largest block that fits K, as in the
    # native profile (the default of 32 is slower). It would also put residual sums into norms, which costs time.
    "int8": SessionSettings(
        "ORT_ENABLE_EXTENDED",
        {
            "session.qdq_matmulnbits_block_size": "-1",
            "session.qdq_matmulnbits_accuracy_level": "4",
            "optimization.disable_specified_optimizers": "SkipLayerNormFusion",
        },
    ),
    # Weights are multiplied out once, while loading: exact, and as large in memory as a float model.
    "fp32": SessionSettings("ORT_ENABLE_BASIC", {"session.disable_quant_qdq": "1"}),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """One of them.

    Attributes:
        name: See ``ProfileName``.
        graph: The ONNX file, from the folder's root.
        data: Its external data, beside it; of several files the later ones are ``data_1``, ``data_2``, …
        standard: Weights in standard operators.
        largest: Bytes that a data file may have; ``None``: any number.
        sessions: What onnxruntime must be told, by compute level.
    """

    name: ProfileName
    graph: str
    data: str
    standard: bool
    largest: int | None
    sessions: Mapping[str, SessionSettings]

    def data_file(self, index: int) -> str:
        """Name of a data file, as the graph calls it."""
        return self.data if index == 0 else f"{self.data}_{index}"

    def from_root(self, file: str) -> str:
        """Name of a file beside the graph, from the folder's root."""
        return (PurePosixPath(self.graph).parent / file).as_posix()


PROFILES: Mapping[str, Profile] = {
    "native": Profile("native", "model.onnx", "model.onnx.data", False, None, NATIVE_SESSIONS),
    "portable": Profile("portable", "model.onnx", "model.onnx.data", True, None, STANDARD_SESSIONS),
    # A browser reads a file into one ArrayBuffer, which holds less than 2 GiB in Chromium.
    "web": Profile("web", "onnx/model_q4.onnx", "model_q4.onnx_data", True, 2_000_000_000, STANDARD_SESSIONS),
}
NATIVE = PROFILES["native"]


def find_profile(name: str) -> Profile:
    """A profile by its name.

    Raises:
        SpecError: There is none of that name.
    """
    if name not in PROFILES:
        raise SpecError(f"profile is {name!r}; use {', '.join(get_args(ProfileName))}")
    return PROFILES[name]
