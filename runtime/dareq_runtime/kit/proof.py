"""Is a result of this kit? The kit is read again, as far as a verdict rests on it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import ArtifactError
from dareq_edge.npy import read_npy
from dareq_edge.records import parse_json
from dareq_runtime.kit.archive import Read, reading
from dareq_runtime.kit.layout import DIGEST, KIT_JSON, Kit, digest_line, reference_name
from dareq_runtime.kit.result import DeviceResult


def kit_of(result: DeviceResult, place: Path) -> tuple[Kit, dict[str, NDArray[np.float64]]]:
    """The kit a result was made with, and the host's losses for the windows that the device read.

    Args:
        result: What a device found.
        place: The kit's folder or zip.

    Returns:
        kit.json, and float64 [P] by compute level.

    Raises:
        ArtifactError: The kit is damaged, or the result is of another one.
    """
    with reading(place) as read:
        content = read(KIT_JSON)
        if read(DIGEST) != digest_line(content):
            raise ArtifactError(f"{KIT_JSON} of {place} does not match {DIGEST}; bundle it again")
        digest = sha256(content).hexdigest()
        if digest != result.kit:
            raise ArtifactError(
                f"the result is of kit {result.kit[:12]}…, {place} is kit {digest[:12]}…; give the right one"
            )
        kit = Kit.from_json(_json(content, place), f"{KIT_JSON} of {place}")
        if kit.counts[: len(result.counts)] != result.counts:
            raise ArtifactError(f"the result's windows are not those of {place}; run validate.py again")
        return kit, {name: _losses(kit, name, sum(result.counts), read, place) for name in result.computes}


def _json(content: bytes, place: Path) -> object:
    try:
        return parse_json(content)
    except ValueError as error:
        raise ArtifactError(f"{KIT_JSON} of {place} is not JSON ({error}); bundle it again") from error


def _losses(kit: Kit, compute: str, total: int, read: Read, place: Path) -> NDArray[np.float64]:
    """The first losses of a reference, once the file is what kit.json says."""
    name = reference_name(compute, "nll")
    content = read(name)
    if name not in kit.files or sha256(content).hexdigest() != kit.files[name].sha256:
        raise ArtifactError(f"{name} of {place} is not the file that was bundled; bundle it again")
    try:
        losses = read_npy(content)
    except ValueError as error:
        raise ArtifactError(f"{name} of {place} is no array of losses ({error}); bundle it again") from error
    if losses.ndim != 1 or losses.dtype != np.float64 or len(losses) < total:
        raise ArtifactError(f"{name} of {place} has {losses.dtype} {losses.shape}, not {total} losses; bundle again")
    return losses[:total]
