"""result.json: what validate.py found on a device, read with suspicion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import ArtifactError
from dareq_edge.records import read_json
from dareq_runtime.kit.layout import COMPUTES, FORMAT
from dareq_runtime.windows import Weighting

LARGEST = 512 << 20
"""Bytes: a million losses in two computes, host and device, have 80 MB."""
_AGAIN = "run validate.py again"


@dataclass(frozen=True, slots=True, eq=False)
class ComputeResult:
    """One compute level.

    Attributes:
        nll: float64 [P], the device's losses, nats; NaN where it had none that is finite.
        reference_nll: float64 [P], the host's, as the device read them.
        claims: Everything else the device says of it: perplexity, verdict, speeds.
    """

    nll: NDArray[np.float64]
    reference_nll: NDArray[np.float64]
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class DeviceResult:
    """A result.json of format 1.

    Attributes:
        kit: sha256 of the kit.json it was made with.
        model: That kit's model.
        protocol: Name and parameters of the windows.
        weighting: What the mean loss is a mean of.
        counts: Predicted tokens of each window that was read.
        device: CPU, system and versions.
        computes: By compute level.
        claims: The device's own verdict, and its peak memory.
    """

    kit: str
    model: Mapping[str, Any]
    protocol: str
    weighting: Weighting
    counts: tuple[int, ...]
    device: Mapping[str, Any]
    computes: Mapping[str, ComputeResult]
    claims: Mapping[str, Any]


def read_result(path: Path) -> DeviceResult:
    """Read a result.json; whether its numbers agree with each other is for ``judging``.

    Raises:
        ArtifactError: It is missing, no result, of an unknown format, or not whole.
    """
    data = _json(path)
    if not isinstance(data, dict) or data.get("kind") != "result":
        raise ArtifactError(f"{path} is no result of a kit's validate.py; give the result.json it wrote")
    if data.get("format") != FORMAT:
        raise ArtifactError(f"{path} has format {data.get('format')!r}, not {FORMAT}; update dareq-edge")
    try:
        counts = tuple(int(n) for n in data["counts"])
        total = sum(counts)
        if min(counts) < 1 or total < 2 or data["weighting"] not in ("token", "window") or not data["computes"]:
            raise ValueError(f"counts or weighting {data['weighting']!r}")  # noqa: TRY301
        return DeviceResult(
            kit=str(data["kit"]),
            model=dict(data["model"]),
            protocol=str(data["protocol"]),
            weighting=cast(Weighting, data["weighting"]),
            counts=counts,
            device=dict(data["device"]),
            computes={name: _compute(name, found, total) for name, found in data["computes"].items()},
            claims={name: data.get(name) for name in ("passed", "reasons", "peak_memory_mb")},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ArtifactError(f"{path} lacks or mistypes {error}; {_AGAIN}") from error


def _json(path: Path) -> Any:
    try:
        return read_json(path, LARGEST)
    except FileNotFoundError as error:
        raise ArtifactError(f"there is no {path}; give the result.json that validate.py wrote") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); copy it again, or {_AGAIN}") from error


def _compute(name: str, data: Mapping[str, Any], total: int) -> ComputeResult:
    if name not in COMPUTES:
        raise ValueError(f"compute {name!r}")
    nll, reference = (np.asarray(data[part], dtype=np.float64) for part in ("nll", "reference_nll"))
    for part, array in (("nll", nll), ("reference_nll", reference)):
        if array.shape != (total,):
            raise ValueError(f"{part} of {name}: {array.shape} numbers for {total} tokens")
    claims = {key: value for key, value in data.items() if key not in ("nll", "reference_nll")}
    return ComputeResult(nll, reference, claims)
