"""The table printed from results: the arithmetic, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dareq_edge.errors import ArtifactError
from examples.benchmarks.device_table import read_devices, table

HOST = np.random.default_rng(0).uniform(2, 6, 128)


def write(folder: Path, name: str, compute: str, losses: np.ndarray, kit: str = "k") -> None:
    claims = {"kl_mean": 1e-3, "kl_p99": 2e-3, "top1_agreement": 0.975}
    found = {**claims, "nll": losses.tolist(), "reference_nll": HOST[: len(losses)].tolist()}
    result = {
        "format": 1,
        "kind": "result",
        "kit": kit,
        "model": {"source": "m"},
        "counts": [64] * (len(losses) // 64),
    }
    result |= {"protocol": "gptq(window=65)", "weighting": "token", "device": {}, "computes": {compute: found}}
    (folder / f"{name}.{compute}.json").write_text(json.dumps(result | {"passed": True, "reasons": []}))


def test_rows_are_paired_differences_over_common_tokens(tmp_path: Path) -> None:
    write(tmp_path, "host", "int8", HOST)
    write(tmp_path, "a-phone", "int8", HOST + np.tile([0.03, 0.01], 64))
    write(tmp_path, "a-phone", "fp32", HOST[:64])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(read_devices(tmp_path))[2:]]
    assert [row[:3] for row in rows] == [
        ["0 (fp32 compute)", "a-phone", "64"],
        ["4 (int8 compute)", "host", "128"],
        ["4 (int8 compute)", "a-phone", "128"],
    ]
    assert [row[4] for row in rows] == ["equal", "equal", "+2.020 ± 0.000 %"]
    assert rows[2][3].startswith(f"{np.exp(HOST.mean() + 0.02):,.4f} ± ")
    assert rows[2][5:] == ["1.0e-03 / 2.0e-03", "97.5 %", "+2.020 ± 0.000 %"]


def test_results_of_different_kits_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "host", "int8", HOST)
    write(tmp_path, "phone", "int8", HOST, kit="another")
    with pytest.raises(ArtifactError, match=r"host\.int8\.json and phone\.int8\.json .* different kits"):
        read_devices(tmp_path)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"holds no result\.json"):
        read_devices(tmp_path)
