"""A folder of onnxruntime-genai, in onnxruntime-genai's own generation loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import ArtifactError
from dareq_runtime.session import first_line


class GenAI:
    """See ``contestant.Contestant``."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder = folder
        self._threads = threads

    def load(self) -> None:
        """Open the model.

        Raises:
            ArtifactError: onnxruntime-genai is not installed or refuses the folder.
        """
        try:
            import onnxruntime_genai
        except ImportError as error:
            raise ArtifactError(
                "it needs the package onnxruntime-genai, which is not installed; run: pip install onnxruntime-genai"
            ) from error
        self._genai: Any = onnxruntime_genai
        model = json.loads((self._folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
        self._vocab_size = int(model["vocab_size"])
        session = {"session_options": {"intra_op_num_threads": self._threads}}
        try:
            config = self._genai.Config(str(self._folder))
            config.overlay(json.dumps({"model": {"decoder": session}}))
            self._model = self._genai.Model(config)
        except Exception as error:  # it raises its own untyped exceptions
            raise ArtifactError(f"onnxruntime-genai cannot load it ({first_line(error)})") from error

    @property
    def vocab_size(self) -> int:
        """See the protocol."""
        return self._vocab_size

    def read(self, ids: NDArray[np.int64], new: int) -> int:
        """See the protocol."""
        self._generator: Any = None  # the last cache goes before the next one comes
        length = len(ids) + new
        parameters = self._genai.GeneratorParams(self._model)
        # min_length: the end-of-text token is never chosen, so that every contestant takes as many steps.
        parameters.set_search_options(max_length=length, min_length=length, do_sample=False)
        self._generator = self._genai.Generator(self._model, parameters)
        self._generator.append_tokens(ids.astype(np.int32))
        return self.step()

    def step(self) -> int:
        """See the protocol. The first call after the prompt only chooses; every other runs the model, too."""
        self._generator.generate_next_token()
        return int(self._generator.get_next_tokens()[0])
