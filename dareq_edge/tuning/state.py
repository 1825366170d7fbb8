"""What a tuning has done so far, in one file that is replaced as a whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from dareq_edge.kept import keep, reading
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Change
from dareq_edge.tuning.settings import Tuning


def digest(settings: Tuning, compute: str, changes: Sequence[Change], tensors: Sequence[torch.Tensor]) -> str:
    """A hash of everything that decides the result, beside the checkpoint, which decided the changes."""
    found = hashlib.sha256(json.dumps(["gains", dataclasses.asdict(settings), compute, torch.__version__]).encode())
    for name, value in changes:
        found.update(name.encode())
        if isinstance(value, QuantizedTensor):
            found.update(json.dumps(value.spec.to_json()).encode())
            found.update(_bytes(torch.from_numpy(value.codes)))
            found.update(_bytes(torch.from_numpy(value.scales)))
        else:
            found.update(_bytes(value))
    for tensor in tensors:
        found.update(_bytes(tensor))
    return found.hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Saved:
    """The file.

    Attributes:
        path: Where.
        settings: From ``digest``; a state of other settings counts as none.
    """

    path: Path
    settings: str

    def load(self) -> tuple[int, dict[str, torch.Tensor]] | None:
        """Steps done and the tensors then; ``None`` if there is no state.

        Raises:
            ArtifactError: The file is damaged.
        """
        if not self.path.is_file():
            return None
        with reading(self.path) as file:
            about: Mapping[str, str] = file.metadata() or {}
            if about.get("settings") != self.settings:
                return None
            return int(about["step"]), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118

    def save(self, step: int, tensors: dict[str, torch.Tensor]) -> None:
        """Replace the state.

        Raises:
            ArtifactError: The disk is full or the place cannot be written.
        """
        keep(self.path, tensors, {"settings": self.settings, "step": str(step)})


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
