"""Reading a quantized checkpoint folder: its plan and its matrices."""

from __future__ import annotations

from collections.abc import Mapping

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.errors import CheckpointError
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.spec import QuantSpec


def read_plan(checkpoint: Checkpoint) -> dict[str, QuantSpec]:
    """The plan in a checkpoint's config.json; empty for a float model.

    Raises:
        CheckpointError: The model was quantized by another tool.
    """
    found = checkpoint.quantization
    if found is None:
        return {}
    if found.get("quant_method") != "dareq" or not isinstance(found.get("plan"), Mapping):
        raise CheckpointError(
            f"{checkpoint.source} was quantized by {found.get('quant_method')!r}, not by dareq-edge; "
            "give the float model"
        )
    return {module: QuantSpec.from_json(spec) for module, spec in found["plan"].items()}


def read_quantized(checkpoint: Checkpoint, module: str, spec: QuantSpec, k: int) -> QuantizedTensor:
    """One matrix of a quantized checkpoint.

    Args:
        checkpoint: A quantized folder.
        module: Module name, e.g. "model.decoder.layers.0.fc1".
        spec: From the plan.
        k: Input channels of the matrix.

    Raises:
        CheckpointError: A tensor is missing or does not fit the spec.
    """
    qweight = checkpoint.tensor(f"{module}.qweight").numpy()
    scales = checkpoint.tensor(f"{module}.scales").numpy()
    try:
        return QuantizedTensor.from_packed(qweight, scales, k, spec)
    except CheckpointError as error:
        raise CheckpointError(f"{module} in {checkpoint.folder}: {error}; quantize the model again") from error
