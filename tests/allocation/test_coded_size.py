"""--max-size for recipes of an entropy coder: what is packed fits, uses what it may; what cannot be is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from dareq_edge.cli import main
from dareq_edge.cli.deployment import model_bytes
from dareq_edge.errors import AllocationError, SpecError
from dareq_edge.manifest import Manifest
from dareq_edge.packed import pack_folder
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.recipes import build
from dareq_edge.recipes._fit import TableRate, fit_rates
from dareq_edge.recipes._survey import Survey
from dareq_export import export_onnx
from fast import fast
from tiny_sources import make

MINI = Path(__file__).parents[2] / "examples/models/opt-mini"
OPTIONS = QuantOptions(table_bits=8, position_bits=8, scale_dtype="bfloat16")
SMALL = {"samples": 5, "sample_length": 24, "probe": 5, "probe_length": 24, "compute": "float32"}
METHODS = {
    "entquant": ("entquant", {}),
    "weights": ("dareq-entropy", {"tier": "weights", "noise": 512}),
    "analytic": ("dareq-entropy", {"tier": "analytic", **SMALL, "row_feedback": 3}),
    "self": ("dareq-entropy", {"tier": "self", **SMALL, "row_feedback": 3, "tuning": 2}),
}


def packed_bytes(tmp_path: Path, method: str, max_bytes: int) -> int:
    """Bytes of the packed data of opt-mini, made to fit."""
    name, settings = METHODS[method]
    quantize_checkpoint(MINI, tmp_path / "q", OPTIONS, build(name, {**settings, "max_bytes": max_bytes}))
    export_onnx(tmp_path / "q", tmp_path / "o")
    pack_folder(tmp_path / "o", tmp_path / "p")
    return (tmp_path / "p/model.onnx.data.dqz").stat().st_size


@pytest.mark.parametrize(
    ("method", "max_bytes"),
    fast(
        [(method, size) for method in METHODS for size in (1_800_000, 2_600_000, 3_300_000)],
        ("weights", 1_800_000),  # entquant: test_deploy_takes_a_size_of_the_packed_model
    ),
)
def test_the_packed_model_fits_and_uses_98_percent(tmp_path: Path, method: str, max_bytes: int) -> None:
    assert 0.98 * max_bytes <= packed_bytes(tmp_path, method, max_bytes) <= max_bytes


@pytest.mark.parametrize("method", fast(["entquant", "weights"]))
def test_too_little_is_refused_with_the_smallest_size(tmp_path: Path, method: str) -> None:
    name, settings = METHODS[method]
    with pytest.raises(AllocationError, match="the smallest possible") as refused:
        quantize_checkpoint(MINI, tmp_path / "q", OPTIONS, build(name, {**settings, "max_bytes": 700_000}))
    assert not (tmp_path / "q").exists()
    smallest = int(re.findall(r"\(([\d,]+) bytes\)", str(refused.value))[-1].replace(",", ""))
    assert packed_bytes(tmp_path, method, smallest) <= smallest


def test_too_little_for_a_tiny_model_is_refused(tmp_path: Path) -> None:
    source, recipe = make(tmp_path / "m", "llama"), build("entquant", {"max_bytes": 5000})
    with pytest.raises(AllocationError, match="the smallest possible"):
        quantize_checkpoint(source, tmp_path / "q", OPTIONS, recipe)
    assert not (tmp_path / "q").exists()


def made_up() -> Survey:
    """One layer of a million weights; its rate falls by a bit for each factor of 4 in slope."""
    rate = torch.linspace(10, 0, 21, dtype=torch.float64)[None]
    zero = torch.zeros(1, dtype=torch.int64)
    return Survey(zero, zero + 1_000_000, torch.zeros(1, dtype=torch.float64), rate)


def test_tables_and_blocks_compete_for_the_same_bytes() -> None:
    tables = {"table": [TableRate(0.5, 400_000, 1e-9), TableRate(8.0, 200_000, 1e-3), TableRate(32.0, 100_000, 1.0)]}
    found = {size: fit_rates(size, 10_000, made_up(), tables) for size in (300_000, 500_000, 900_000, 2_000_000)}
    lams = [fit.lams["table"] for fit in found.values()]
    rates = [fit.target_bits for fit in found.values()]
    assert lams == sorted(lams, reverse=True)
    assert len(set(lams)) > 1
    assert rates == sorted(rates)
    assert rates[-1] == 8.0, "codes have no more bits"
    for size, fit in list(found.items())[:-1]:
        table = next(rate.bytes for rate in tables["table"] if rate.lam == fit.lams["table"])
        assert 0.99 * size <= 10_000 + table + fit.target_bits * 1_000_000 / 8 <= size
    with pytest.raises(AllocationError, match=r"no rates fit packed data of 100\.00 kB"):
        fit_rates(100_000, 10_000, made_up(), tables)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("entquant", {"max_bytes": 1000, "target_bits": 3}),
        ("dareq-entropy", {"max_bytes": 1000, "slope": 1e-6}),
        ("dareq-entropy", {"max_bytes": 0}),
        ("entquant", {"max_bytes": "60MB"}),
    ],
)
def test_settings_that_cannot_work_are_refused(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="max_bytes"):
        build(name, settings)


def test_deploy_takes_a_size_of_the_packed_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make(tmp_path / "m", "llama")
    base = ["deploy", str(source), "--out", str(tmp_path / "d"), "--recipe", "entquant", "--no-eval", "--prompt", ""]
    assert main([*base, "--max-size", "100kB"]) != 0
    assert "add --pack to meet --max-size" in capsys.readouterr().err
    assert main([*base, "--max-size", "100kB", "--pack", "--rule", "uniform"]) != 0
    assert "--rule and --max-size both decide bits" in capsys.readouterr().err
    assert main([*base, "--rule", "uniform"]) != 0
    assert "recipe entquant always has 8-bit codes" in capsys.readouterr().err
    assert main([*base, "--max-size", "100kB", "--pack", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"]["packed_folder"] > 0
    assert 98_000 <= model_bytes(Manifest.read(tmp_path / "d")) <= 100_000
