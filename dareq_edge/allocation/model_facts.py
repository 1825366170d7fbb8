"""The matrices of any causal language model that transformers knows, from a model on the meta device."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import PretrainedConfig

from dareq_edge.allocation.matrices import Matrix
from dareq_edge.checkpoint import Checkpoint, read_config
from dareq_edge.errors import UnsupportedArchitectureError
from dareq_edge.layers import decoder_layers
from dareq_edge.matrix import matrix_of
from dareq_edge.plan import QuantOptions, plan_model


def config_at(path: Path, trust_remote_code: bool) -> PretrainedConfig:
    """The configuration in a folder, or in a config.json.

    Raises:
        CheckpointError: There is none, or it cannot be read.
        UnsupportedArchitectureError: Not a causal language model that transformers knows.
    """
    folder = path.parent if path.name == "config.json" else path
    return read_config(folder, trust_remote_code=trust_remote_code)


def matrices_of_config(config: PretrainedConfig, *, trust_remote_code: bool = False) -> tuple[Matrix, ...]:
    """Every matrix that can be planned, in the model's order.

    Args:
        config: Of a causal language model.
        trust_remote_code: Let transformers run code that comes with the model.

    Raises:
        UnsupportedArchitectureError: Not such a model, or nothing in it can be quantized.
    """
    name = str(getattr(config, "name_or_path", "") or config.model_type)
    model = Checkpoint.of_config(config, name).empty_model(trust_remote_code=trust_remote_code)
    path = decoder_layers(model)
    found = []
    for name in _planned(model):
        rows, columns = matrix_of(model.get_submodule(name)).shape
        inside = path is not None and name.startswith(f"{path}.")
        block = int(name.removeprefix(f"{path}.").split(".")[0]) if inside else None
        found.append(Matrix(name, rows, columns, block))
    return tuple(found)


def _planned(model: nn.Module) -> list[str]:
    """Names in the fullest plan there is: of tables that do more than look rows up, none is planned."""
    try:
        return list(plan_model(model, QuantOptions(table_bits=8, position_bits=8)))
    except UnsupportedArchitectureError:
        return list(plan_model(model, QuantOptions()))
