"""Facts: the matrices of a model and the decoder blocks they lie in, from config.json alone. Imports no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.allocation.known_shapes import known_matrices
from dareq_edge.allocation.matrices import Matrix
from dareq_edge.errors import CheckpointError, UnsupportedArchitectureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PretrainedConfig

__all__ = ["Facts", "Matrix", "facts_from", "facts_of_config", "read_json"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule may know of a model without reading a weight.

    Attributes:
        matrices: Every matrix that can be planned, in the model's order; a head tied to the token table has none.
        blocks: Number of decoder blocks, at least 1.
        architecture: ``model_type`` of config.json, e.g. "opt".

    Raises:
        UnsupportedArchitectureError: There is no block, or one without a matrix.
    """

    matrices: tuple[Matrix, ...]
    blocks: int
    architecture: str

    def __post_init__(self) -> None:
        found = {m.block for m in self.matrices if m.block is not None}
        if not found or found != set(range(self.blocks)):
            raise UnsupportedArchitectureError(
                f"model type {self.architecture!r} has {self.blocks} decoder blocks, of which {len(found)} hold "
                "linear layers; bits per block cannot be decided for it, quantize it without a rule"
            )

    def of_block(self, i: int) -> tuple[Matrix, ...]:
        """Matrices of one decoder block, in the model's order."""
        return tuple(m for m in self.matrices if m.block == i)

    def parameters(self, i: int) -> int:
        """Weights in the matrices of one decoder block; biases and norms are not counted."""
        return sum(m.size for m in self.of_block(i))


def facts_of_config(
    config: str | Path | PretrainedConfig, *, trust_remote_code: bool = False, quick: bool = False
) -> Facts:
    """Facts of a model from its configuration; no weights are read.

    Args:
        config: A model folder, its config.json, or a transformers configuration.
        trust_remote_code: Let transformers run code that comes with the model.
        quick: Where the architecture is one whose layers are written down (``known_shapes``), do without torch and
            transformers, whose imports take seconds. Not for a configuration that transformers has opened already.

    Raises:
        CheckpointError: There is no config.json, or it cannot be read.
        UnsupportedArchitectureError: Not a causal language model with decoder blocks.
    """
    if quick and isinstance(config, (str, Path)):
        raw = read_json(Path(config))
        if (matrices := known_matrices(raw)) is not None:
            return facts_from(matrices, str(raw["model_type"]))
    # torch and transformers take seconds to import
    from dareq_edge.allocation.model_facts import config_at, matrices_of_config

    opened = config_at(Path(config), trust_remote_code) if isinstance(config, (str, Path)) else config
    return facts_from(matrices_of_config(opened, trust_remote_code=trust_remote_code), str(opened.model_type))


def facts_from(matrices: tuple[Matrix, ...], architecture: str) -> Facts:
    """Facts of these matrices; as many blocks as they name."""
    return Facts(matrices, 1 + max((m.block for m in matrices if m.block is not None), default=-1), architecture)


def read_json(path: Path) -> Mapping[str, object]:
    """config.json as it is.

    Args:
        path: The file or its folder.

    Raises:
        CheckpointError: There is none, or it cannot be read.
    """
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"no config.json at {path}; give a Hugging Face model folder or its config.json")
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON ({error}); get the file again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds no JSON object; get the file again")
    return found
