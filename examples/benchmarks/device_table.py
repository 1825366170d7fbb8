"""Print the table of one kit's results on several devices, and what separates neighbouring links of the chain.

    python examples/benchmarks/device_table.py out/arm          # a folder of DEVICE.json or DEVICE.COMPUTE.json

Everything is computed again from the losses of single tokens. Differences are paired: both sides predicted the same
tokens, and the error is that of their mean difference. KL and top-1 are what the device counted (KL over the host's
likeliest tokens and the rest as one: a lower bound).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dareq_edge.errors import ArtifactError, DareqError
from dareq_runtime.kit.result import ComputeResult, DeviceResult, read_result
from dareq_runtime.scoring import mean_and_error

COMPUTES = ("fp32", "int8")
HEADINGS = (
    "level",
    "device",
    "tokens",
    "perplexity ± error",
    "against the host, same level",
    "KL mean / 99 %",
    "top-1",
    "against its own fp32 compute",
)
LEVELS = {"fp32": "0 (fp32 compute)", "int8": "4 (int8 compute)"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One device under one compute.

    Attributes:
        result: The device's record.
        found: Its losses and claims.
    """

    result: DeviceResult
    found: ComputeResult

    def perplexity(self) -> str:
        """Perplexity ± standard error."""
        mean, error = self._mean(self.found.nll, len(self.found.nll))
        return f"{np.exp(mean):,.4f} ± {np.exp(mean) * error:.4f}"

    def against(self, reference: NDArray[np.float64]) -> str:
        """Relative difference of perplexity from the same tokens' losses elsewhere, with its paired error."""
        size = min(len(reference), len(self.found.nll))
        if np.array_equal(reference[:size], self.found.nll[:size]):
            return "equal"
        mean, error = self._mean(self.found.nll[:size] - reference[:size], size)
        delta = np.expm1(mean)
        digits = 3 if max(abs(delta), error) > 1e-5 else 7
        return f"{100 * delta:+.{digits}f} ± {100 * (1 + delta) * error:.{digits}f} %"

    def _mean(self, losses: NDArray[np.float64], size: int) -> tuple[float, float]:
        ends = [int(end) for end in np.cumsum(self.result.counts) if end <= size]
        parts = np.split(losses[: ends[-1]], ends[:-1])
        return mean_and_error(parts, self.result.weighting)


def read_devices(folder: Path) -> dict[str, dict[str, Cell]]:
    """Cells by device (what a file's name says before its first dot) and compute.

    Raises:
        ArtifactError: There is no result, or the results are of different kits.
    """
    devices: dict[str, dict[str, Cell]] = {}
    kits: dict[str, Path] = {}
    for path in sorted(folder.glob("*.json")):
        result = read_result(path)
        kits.setdefault(result.kit, path)
        cells = devices.setdefault(path.name.split(".")[0], {})
        cells.update({name: Cell(result, found) for name, found in result.computes.items()})
    if not devices:
        raise ArtifactError(f"{folder} holds no result.json; run a kit's validate.py, or examples.arm.judge")
    if len(kits) > 1:
        names = " and ".join(path.name for path in list(kits.values())[:2])
        raise ArtifactError(f"{names} in {folder} are of different kits; a table compares one kit's results")
    return devices


def table(devices: dict[str, dict[str, Cell]]) -> list[str]:
    """Lines of Markdown: a row per compute and device."""
    lines = [_row(HEADINGS), _row(["---"] * len(HEADINGS))]
    for compute in COMPUTES:
        for name, cells in sorted(devices.items(), key=lambda item: item[0] != "host"):
            if compute not in cells:
                continue
            cell, claims = cells[compute], cells[compute].found.claims
            own = cells.get("fp32") if compute == "int8" else None
            columns = [
                LEVELS[compute],
                name,
                f"{len(cell.found.nll):,}",
                cell.perplexity(),
                cell.against(cell.found.reference_nll),
                f"{claims['kl_mean']:.1e} / {claims['kl_p99']:.1e}",
                f"{100 * claims['top1_agreement']:.1f} %",
                cell.against(own.found.nll) if own else "",
            ]
            lines.append(_row(columns))
    return lines


def _row(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    try:
        devices = read_devices(parser.parse_args().folder)
    except DareqError as error:
        parser.error(str(error))
    result = next(iter(next(iter(devices.values())).values())).result
    print(f"{result.model['source']}, {result.protocol}, kit {result.kit[:12]}\n")
    print("\n".join(table(devices)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
