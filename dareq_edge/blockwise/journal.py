"""Journal: what a block-wise recipe has done so far, on disk, so that the same call goes on where it stopped.

The folder holds ``block-<i>.safetensors`` for every finished block, and ``state-<i>.safetensors``, the activations
after the last finished one and a digest of everything that decides the result. A block counts as finished when its
state is there. Other files in the folder are left alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from dareq_edge.kept import keep, reading
from dareq_edge.progress import Progress
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.recipes import Change, Recipe, Source, recipe_json
from dareq_edge.spec import QuantSpec

State = dict[str, torch.Tensor]
"""What one block hands to the next beside the weights: activations, by a name of the recipe's."""
Step = Callable[[int, State], list[Change]]
"""(block, state) -> what changes in that block; brings the state to where the next block needs it."""


def digest(source: Source, recipe: Recipe, data: Mapping[str, torch.Tensor]) -> str:
    """A hash of everything that decides a recipe's result.

    Args:
        source: The checkpoint (its files by name, size and time of change), the plan and the options.
        recipe: Its settings.
        data: Tensors, e.g. the calibration tokens.
    """
    files = sorted({info.file for info in source.checkpoint.tensors.values()})
    about = {
        "files": [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files],
        "plan": {name: spec.to_json() for name, spec in source.plan.items()},
        "options": dataclasses.asdict(source.options),
        "recipe": recipe_json(recipe),
        "torch": torch.__version__,
    }
    found = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in sorted(data.items()):
        found.update(name.encode())
        found.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return found.hexdigest()


class Journal:
    """See the module.

    Args:
        folder: ``Source.work``; created when the first block is finished.
        settings: From ``digest``; work done with other settings is removed.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self._folder = folder
        self._settings = settings
        self.done = self._finished()
        """Blocks that need not be done again."""
        if self.done and self._others_settings():
            for old in [*folder.glob("block-*"), *folder.glob("state-*")]:
                old.unlink()
            self.done = 0

    def changes(self, block: int) -> list[Change]:
        """What a finished block changed.

        Raises:
            ArtifactError: The file is damaged.
        """
        with reading(self._block(block), self._folder) as file:
            about = file.metadata()
            specs: dict[str, dict[str, object]] = json.loads(about["specs"])
            found: list[Change] = []
            for target in json.loads(about["targets"]):
                if target not in specs:
                    found.append((target, file.get_tensor(target)))
                    continue
                codes, scales = (file.get_tensor(f"{target}:{part}").numpy() for part in ("codes", "scales"))
                found.append((target, QuantizedTensor(codes, scales, QuantSpec.from_json(specs[target]))))
            return found

    def state(self) -> State:
        """The state after the last finished block; there must be one.

        Raises:
            ArtifactError: The file is damaged.
        """
        with reading(self._state(self.done - 1), self._folder) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def commit(self, changes: Sequence[Change], state: State) -> None:
        """Write down that the next block is finished.

        Raises:
            ArtifactError: The disk is full or the place cannot be written.
        """
        tensors: dict[str, torch.Tensor] = {}
        for target, value in changes:
            if isinstance(value, torch.Tensor):
                tensors[target] = value.contiguous()
            else:
                tensors[f"{target}:codes"] = torch.from_numpy(value.codes)
                tensors[f"{target}:scales"] = torch.from_numpy(value.scales)
        specs = {target: value.spec.to_json() for target, value in changes if isinstance(value, QuantizedTensor)}
        about = {"targets": json.dumps([target for target, _ in changes]), "specs": json.dumps(specs)}
        keep(self._block(self.done), tensors, about)
        keep(self._state(self.done), state, {"settings": self._settings})
        for old in self._folder.glob("state-*"):
            if old != self._state(self.done):
                old.unlink()
        self.done += 1

    def _block(self, index: int) -> Path:
        return self._folder / f"block-{index}.safetensors"

    def _state(self, index: int) -> Path:
        return self._folder / f"state-{index}.safetensors"

    def _others_settings(self) -> bool:
        path = self._state(self.done - 1)
        with reading(path, self._folder) as file:
            return (file.metadata() or {}).get("settings") != self._settings

    def _finished(self) -> int:
        states = [int(p.stem.removeprefix("state-")) for p in self._folder.glob("state-*.safetensors")]
        return max(states, default=-1) + 1


def sweep(
    count: int, journal: Journal, start: Callable[[], State], step: Step, progress: Progress
) -> Iterator[Change]:
    """Do all blocks in turn, beginning with the first that is not in the journal.

    Args:
        count: Number of blocks.
        journal: Where finished blocks are kept.
        start: The state before the first block; not called when there are finished blocks.
        step: Does one block.
        progress: Called per block.

    Yields:
        What changes, block by block: the same whether or not the work was interrupted.
    """
    for index in range(journal.done):
        yield from journal.changes(index)
    if journal.done == count:
        return
    state = journal.state() if journal.done else start()
    for index in range(journal.done, count):
        progress("quantizing blocks", index, count)
        changes = step(index, state)
        journal.commit(changes, state)
        yield from changes
    progress("quantizing blocks", count, count)
