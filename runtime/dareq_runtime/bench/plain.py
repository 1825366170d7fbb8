"""A plain ONNX decoder folder (optimum's layout), with a cache that grows as its graph says.

Past and present are two buffers: every pass writes present, which is past plus the new tokens, and hands it back as
past of the next pass. The buffers stay onnxruntime's own (IO binding); numpy sees the logits only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from dareq_edge.errors import ArtifactError
from dareq_runtime.session import first_line

_PAST, _PRESENT = "past_key_values.", "present."
_TYPES: dict[str, type[Any]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_LAST_ONLY = "num_logits_to_keep"
_KNOWN = {"input_ids", "attention_mask", "position_ids", _LAST_ONLY}


class Plain:
    """See ``contestant.Contestant``; onnxruntime's default session options but for the number of threads."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._path = folder / "model.onnx"
        self._threads = threads
        self._done = 0
        self._token = 0

    def load(self) -> None:
        """Open the session.

        Raises:
            ArtifactError: onnxruntime refuses it, or its inputs and outputs are not a decoder's.
        """
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads
        try:
            self._session = ort.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise ArtifactError(f"onnxruntime {ort.__version__} cannot load it ({first_line(error)})") from error
        self._inputs = {i.name: i for i in self._session.get_inputs()}
        outputs = {o.name: o for o in self._session.get_outputs()}
        pasts = [name for name in self._inputs if name.startswith(_PAST)]
        self._caches = [(name, _PRESENT + name.removeprefix(_PAST)) for name in pasts]
        unknown = sorted(set(self._inputs) - set(pasts) - _KNOWN)
        missing = [name for name in ("logits", *(p for _, p in self._caches)) if name not in outputs]
        if not pasts or unknown or missing or "input_ids" not in self._inputs:
            what = f"unknown input {unknown[0]!r}" if unknown else f"no {(missing or [_PAST + '0.key'])[0]!r}"
            raise ArtifactError(f"its graph has {what}; export it with optimum as text-generation-with-past")
        self._vocab_size = self._fixed(outputs["logits"].shape[2], "logits")

    @property
    def vocab_size(self) -> int:
        """See the protocol."""
        return self._vocab_size

    def read(self, ids: NDArray[np.int64], new: int) -> int:
        """See the protocol."""
        self._binding = self._session.io_binding()
        for past, _ in self._caches:
            self._binding.bind_ortvalue_input(past, self._empty(past))
        self._done = 0
        return self._run(ids)

    def step(self) -> int:
        """See the protocol."""
        return self._run(np.array([self._token], np.int64))

    def _run(self, ids: NDArray[np.int64]) -> int:
        total = self._done + len(ids)
        feeds = {
            "input_ids": ids[None, :],
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(self._done, total, dtype=np.int64)[None, :],
            _LAST_ONLY: np.array(1, np.int64),
        }
        for name, array in feeds.items():
            if name in self._inputs:
                self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        self._binding.bind_output("logits", "cpu")
        for _, present in self._caches:
            self._binding.bind_output(present, "cpu")
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # onnxruntime raises a dozen unrelated classes
            raise ArtifactError(f"onnxruntime {ort.__version__} failed in it ({first_line(error)})") from error
        logits, *presents = self._binding.get_outputs()
        for (past, _), value in zip(self._caches, presents, strict=True):
            self._binding.bind_ortvalue_input(past, value)
        self._done = total
        self._token = int(logits.numpy()[0, -1].argmax())
        return self._token

    def _empty(self, name: str) -> Any:
        """A past of no tokens."""
        entry = self._inputs[name]
        if entry.type not in _TYPES:
            raise ArtifactError(f"its cache {name} is a {entry.type}; only float and float16 can be measured")
        shape = [1, self._fixed(entry.shape[1], name), 0, self._fixed(entry.shape[3], name)]
        return ort.OrtValue.ortvalue_from_shape_and_type(shape, _TYPES[entry.type], "cpu", 0)

    @staticmethod
    def _fixed(size: object, name: str) -> int:
        if not isinstance(size, int):
            raise ArtifactError(f"a size of {name} is {size!r}; its graph must fix heads, head size and vocabulary")
        return size
