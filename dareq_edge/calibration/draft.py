"""Draft: text being written, on disk with what the model remembers of it, so that writing can go on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from dareq_edge.kept import keep, reading

Memory = dict[str, torch.Tensor]
"""What one layer remembers."""


@dataclass(slots=True, eq=False)
class Draft:
    """What has been written: ``done`` rows in full, and ``step`` tokens of the batch after them.

    The folder holds ``text.safetensors`` and, in the middle of a batch, ``text-<done>-<step>-<layer>.safetensors``:
    a file per layer, because a copy of all that a model remembers can be as large as the model.
    """

    folder: Path
    settings: str
    tokens: torch.Tensor
    done: int = 0
    step: int = 0

    @classmethod
    def open(cls, folder: Path, settings: str, shape: tuple[int, int]) -> Draft:
        """What there is, or a new one.

        Args:
            folder: ``Source.work``.
            settings: Digest of everything that decides the text; a draft of other settings counts as none.
            shape: [S, T].

        Raises:
            ArtifactError: A file is damaged.
        """
        draft = cls(folder, settings, torch.zeros(shape, dtype=torch.int64))
        if draft._text.is_file():
            with reading(draft._text) as file:
                about = file.metadata() or {}
                if about.get("settings") == settings:
                    draft.tokens = file.get_tensor("tokens")
                    draft.done, draft.step = int(about["done"]), int(about["step"])
        return draft

    def keep(self, done: int, step: int, memory: Iterable[Memory] = ()) -> None:
        """Write everything down; the text is replaced last, so that what it counts on is there.

        Raises:
            ArtifactError: The disk is full or the place cannot be written.
        """
        self.done, self.step = done, step
        about = {"settings": self.settings, "done": str(done), "step": str(step)}
        written = set()
        for layer, part in enumerate(memory):
            keep(self._layer(layer), part, about)
            written.add(self._layer(layer))
        keep(self._text, {"tokens": self.tokens}, about)
        for old in set(self.folder.glob("text-*.safetensors")) - written:
            old.unlink()

    def memory(self) -> Iterator[Memory]:
        """What the model remembered at ``step``, layer by layer.

        Raises:
            ArtifactError: A file is damaged.
        """
        layer = 0
        while (path := self._layer(layer)).is_file():
            with reading(path) as file:
                yield {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            layer += 1

    @property
    def _text(self) -> Path:
        return self.folder / "text.safetensors"

    def _layer(self, index: int) -> Path:
        return self.folder / f"text-{self.done}-{self.step}-{index}.safetensors"
