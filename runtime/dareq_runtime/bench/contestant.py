"""What a model must be able to do to be measured."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Contestant(Protocol):
    """One folder, run the way its users run it; made cheaply, costs memory from ``load`` on."""

    def load(self) -> None:
        """Open the model.

        Raises:
            ArtifactError: It cannot be opened.
        """

    @property
    def vocab_size(self) -> int:
        """Ids are below this; known after ``load``."""

    def read(self, ids: NDArray[np.int64], new: int) -> int:
        """Read a prompt into an empty cache.

        Args:
            ids: int64 [T], T >= 1.
            new: Tokens that will follow it, 1 or more.

        Returns:
            The greedy next token.
        """

    def step(self) -> int:
        """Feed the token chosen last; returns the greedy next one. At most ``new`` - 1 times after ``read``."""
