"""QuantizedSource: read-only view of a quantized checkpoint folder, one tensor at a time, numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from dareq_edge.errors import CheckpointError
from dareq_edge.folders import inside
from dareq_edge.layer_limit import check_layers
from dareq_edge.manifest import refuse_packed, verify_if_listed
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.records import read_json
from dareq_edge.spec import QuantSpec

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class QuantizedSource:
    """A folder that ``dareq-edge quantize`` or transformers' ``save_pretrained`` wrote with DARE-Q weights.

    Attributes:
        folder: The folder.
        plan: Module name → spec, from config.json's ``quantization_config.plan``.
        shards: Tensor name → file that holds it.
    """

    folder: Path
    plan: Mapping[str, QuantSpec]
    shards: Mapping[str, Path]

    @classmethod
    def open(cls, folder: Path) -> QuantizedSource:
        """Read the headers.

        Raises:
            CheckpointError: The folder is not a quantized checkpoint, or a file is missing or corrupt.
            ArtifactError: A file is not what the folder's dareq.json says.
            SpecError: It is packed.
        """
        refuse_packed(folder)
        verify_if_listed(folder)
        check_layers(read_object(folder / "config.json"), folder)
        quantization = read_object(folder / "config.json").get("quantization_config")
        plan = quantization.get("plan") if isinstance(quantization, dict) else None
        if not plan or not isinstance(plan, dict):
            raise CheckpointError(
                f"{folder} is not a checkpoint that dareq-edge quantized; run dareq-edge quantize on it first"
            )
        return cls(folder, {name: QuantSpec.from_json(spec) for name, spec in plan.items()}, _index(folder))

    def tensor(self, name: str) -> NDArray[Any]:
        """One tensor as stored.

        Raises:
            CheckpointError: It is missing or its shard is damaged.
        """
        if name not in self.shards:
            raise CheckpointError(f"{self.folder} has no tensor {name}; quantize the checkpoint again")
        try:
            with safe_open(self.shards[name], "np") as shard:
                return shard.get_tensor(name)  # type: ignore[no-any-return]
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self.shards[name]} cannot be read ({error}); quantize again") from error

    def floats(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """One unquantized tensor as float32.

        Raises:
            CheckpointError: It is missing or its shape differs from ``shape``.
        """
        value = self.tensor(name)
        if value.shape != shape:
            raise CheckpointError(f"{name} is {value.shape} in {self.folder}; the architecture needs {shape}")
        return np.ascontiguousarray(value, dtype=np.float32)

    def quantized(self, module: str, k: int) -> QuantizedTensor:
        """The codes and scales of a planned module with K input channels."""
        qweight, scales = self.tensor(f"{module}.qweight"), self.tensor(f"{module}.scales")
        return QuantizedTensor.from_packed(qweight, scales, k, self.plan[module])


def _index(folder: Path) -> dict[str, Path]:
    """Tensor name → shard."""
    if (folder / _INDEX).is_file():
        weight_map = read_object(folder / _INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise CheckpointError(f"{folder / _INDEX} is not a safetensors index; quantize the checkpoint again")
        return {name: inside(folder, file, CheckpointError) for name, file in weight_map.items()}
    path = folder / _SINGLE
    try:
        with safe_open(path, "np") as shard:
            return dict.fromkeys(shard.keys(), path)
    except FileNotFoundError as error:
        raise CheckpointError(f"no {_SINGLE} in {folder}; give a folder with safetensors weights") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); quantize the checkpoint again") from error


def read_object(path: Path) -> dict[str, Any]:
    """A file that holds one JSON object.

    Raises:
        CheckpointError: It is missing or holds anything else.
    """
    try:
        data = read_json(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"no {path.name} in {path.parent}; give a model folder") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); get the file again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} does not hold a JSON object; get the file again")
    return data


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)  # importing ml_dtypes is what lets safetensors hand out bf16 arrays
