"""Weights of a packed folder: decoded into memory, and handed to onnxruntime.

onnxruntime takes weights from memory in two ways, and copies them in both (1.26 to 1.32): whole files
(``add_external_initializers_from_files_in_memory``) and tensors (``add_external_initializers``). Measured on an
OPT-125m shape of 8-bit codes, 122 MiB: with files the process grows by 385 MiB and 226 stay, because their copies
come from the heap, which glibc does not give back; with tensors by 334 and 176 (unpacked, mapped: 173 and 136). So
tensors it is, and files for what numpy has no type for: int4 of the portable and web profiles. Either copy is made
while the session is opened, and the decoded buffers can go right after.

What does not work: ``add_initializer``, which would copy nothing, insists on the file that is not there, and would
keep the buffers beside the kernels' packed copies for good; values that own their memory (DLPack) are held as long as
the session; a file in memory alone (memfd) is refused as lying outside of the model's folder.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from dareq_edge.errors import ArtifactError
from dareq_edge.manifest import NAME, Manifest
from dareq_edge.packed import open_container
from dareq_runtime.initializers import ExternalTensor, external_tensors
from dareq_runtime.presets import cores


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """A graph's external data in memory.

    Attributes:
        model: The serialized graph.
        files: uint8 [bytes] by the name the graph calls the file.
        tensors: What the graph wants of them.
    """

    model: bytes
    files: Mapping[str, NDArray[np.uint8]]
    tensors: Sequence[ExternalTensor]

    def give(self, options: Any) -> Sequence[object]:
        """Hand them to a session that is made from ``model`` with these ``onnxruntime.SessionOptions``.

        The options must not be used for another session later, nor the session be given other providers: they keep
        the addresses.

        Returns:
            What must live until the session is open.
        """
        arrays = {
            t.name: self.files[t.location][t.offset :][: t.nbytes].view(t.dtype).reshape(t.shape)
            for t in self.tensors
            if t.dtype is not None
        }
        values = [ort.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
        options.add_external_initializers(list(arrays), values)
        rest = {t.location for t in self.tensors if t.dtype is None}
        if rest:
            files = {name: data for name, data in self.files.items() if name in rest}
            sizes = [len(data) for data in files.values()]
            options.add_external_initializers_from_files_in_memory(list(files), list(files.values()), sizes)
        return values


def decode_weights(folder: Path, manifest: Manifest) -> Weights:
    """Decode what the graph of a packed folder needs, on every core.

    Every frame's checksums are compared, and the containers' own records with dareq.json before anything is
    allocated; ``verification`` compares the containers with their sha256.

    Args:
        folder: The packed folder.
        manifest: Its dareq.json.

    Raises:
        ArtifactError: A container is damaged or holds another file, or the graph wants bytes that it has not.
    """
    beside = PurePosixPath(manifest.graph).parent
    names = [name for name in manifest.packed if name != NAME]
    containers = {name: open_container(manifest, folder, name) for name in names}
    model = (folder / manifest.graph).read_bytes()
    tensors = external_tensors(model)
    for tensor in tensors:
        name = (beside / tensor.location).as_posix()
        if name not in containers or not 0 <= tensor.offset <= containers[name].nbytes - tensor.nbytes:
            raise ArtifactError(
                f"{manifest.graph} in {folder} wants {tensor.nbytes} bytes at {tensor.offset} of {tensor.location}, "
                "which the folder does not hold; copy or pack it again"
            )
    files = {}
    for location in dict.fromkeys(t.location for t in tensors):
        container = containers[(beside / location).as_posix()]
        files[location] = _room(container.nbytes, folder)
        container.decode_into(files[location], threads=cores())
    return Weights(model, files, tensors)


def _room(size: int, folder: Path) -> NDArray[np.uint8]:
    """uint8 [size] straight from the system, to which it goes back as soon as nothing refers to it."""
    try:
        return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]
    except (OSError, ValueError, OverflowError) as error:
        raise ArtifactError(f"no memory for the {size} bytes that {folder} unpacks to ({error})") from error
