"""Statistics of weights against loops and numpy's own histogram."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from dareq_edge import DareqConfig, quantize_checkpoint
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.layers import place_of
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.reporting import measure
from dareq_edge.reporting.measure import code_bits, entropy, error_stats, scale_stats, weight_stats
from dareq_edge.reporting.statistics import BINS, STEP_BINS, STEP_RANGE
from dareq_edge.spec import QuantSpec
from tiny_models import TRANSPOSED, save_random, tiny_opt
from tolerances import FLOAT64_SUM


def some(group: int | None, n: int = 9, k: int = 70) -> tuple[torch.Tensor, QuantizedTensor]:
    """A float matrix and codes that fit it badly, with scales of either sign."""
    draw = np.random.default_rng(3)
    spec = QuantSpec(4, group)
    weight = torch.from_numpy(draw.normal(0, 0.1, (n, k)).astype(np.float32))
    scales = (draw.uniform(0.01, 0.03, (n, spec.groups(k))) * draw.choice([-1, 1], (n, 1))).astype(np.float32)
    wide = np.repeat(scales, k if group is None else group, axis=1)[:, :k]
    codes = np.clip(np.rint(weight.numpy() / wide), -8, 7) + 8
    return weight, QuantizedTensor(codes.astype(np.uint8), scales, spec)


@pytest.mark.parametrize("group", [None, 16])
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_errors(group: int | None, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, value = some(group)
    monkeypatch.setattr(measure, "row_blocks", lambda n, k: (slice(i, min(i + rows, n)) for i in range(0, n, rows)))
    found = error_stats(weight, value)
    w = weight.double().numpy()
    step = np.abs(value.scales.astype(np.float64))
    step = np.repeat(step, 70 if group is None else group, axis=1)[:, :70]
    r = np.array(
        [
            [
                w[n, k] - float(value.scales[n, k // (group or 70)]) * (int(value.codes[n, k]) - 8)
                for k in range(w.shape[1])
            ]
            for n in range(w.shape[0])
        ]
    )
    assert found.relative == pytest.approx(math.sqrt((r**2).sum() / (w**2).sum()), rel=FLOAT64_SUM)
    assert found.largest == pytest.approx(np.abs(r / step).max(), rel=FLOAT64_SUM)
    assert found.decibels == pytest.approx(-10 * math.log10((r**2).sum() / (w**2).sum()), rel=FLOAT64_SUM)
    for entropy_found, x in ((found.entropy_before, w), (found.entropy_after, r)):
        p = np.histogram(x, BINS)[0] / x.size
        assert entropy_found == pytest.approx(-sum(q * math.log(q) for q in p if q), rel=FLOAT64_SUM)
    inside = np.clip(r / step, -STEP_RANGE, STEP_RANGE)
    assert found.histogram == tuple(np.histogram(inside, STEP_BINS, (-STEP_RANGE, STEP_RANGE))[0])
    assert sum(found.histogram) == w.size


def test_exact_codes_leave_nothing() -> None:
    value = some(None)[1]
    found = error_stats(torch.from_numpy(value.dequantize()).double(), value)
    assert found.relative < 1e-7  # the float32 product that dequantize rounds
    exact = QuantizedTensor(value.codes, np.ones_like(value.scales), value.spec)
    found = error_stats(torch.from_numpy(exact.dequantize()), exact)
    assert (found.relative, found.largest, found.entropy_after, found.decibels) == (0, 0, 0, math.inf)
    assert found.histogram[STEP_BINS // 2] == value.codes.size


def test_a_matrix_of_zeros() -> None:
    value = QuantizedTensor(np.full((3, 8), 8, np.uint8), np.ones((3, 1), np.float32), QuantSpec(4))
    found = error_stats(torch.zeros(3, 8), value)
    assert (found.relative, found.entropy_before, found.entropy_after) == (0, 0, 0)
    assert code_bits(value) == 0


def test_entropies_of_known_counts() -> None:
    assert entropy(np.array([5, 5, 5, 5])) == pytest.approx(math.log(4))
    assert entropy(np.array([0, 7])) == 0
    codes = np.arange(16, dtype=np.uint8).reshape(2, 8)
    assert code_bits(QuantizedTensor(codes, np.ones((2, 1), np.float32), QuantSpec(4))) == pytest.approx(4)


def test_scales_are_taken_by_magnitude() -> None:
    scales = np.array([[-4.0], [1.0], [2.0], [-3.0], [5.0]], np.float32)
    value = QuantizedTensor(np.full((5, 8), 8, np.uint8), scales, QuantSpec(4))
    found = scale_stats(value)
    assert (found.count, found.least, found.median, found.most) == (5, 1, 3, 5)
    assert (found.low, found.high) == (pytest.approx(1.2), pytest.approx(4.8))


def test_places() -> None:
    assert place_of("h.11.attn.c_attn", "h") == (11, "attn.c_attn")
    assert place_of("lm_head", None) == (None, "lm_head")


@pytest.mark.parametrize("family", ["opt", "gpt2"])
def test_a_checkpoint(tmp_path: Path, family: str) -> None:
    """Also layers that store their transpose, and tables."""
    source = tiny_opt(tmp_path / "m") if family == "opt" else save_random(TRANSPOSED, tmp_path / "m")
    config = DareqConfig(recipe="rtn", table_bits=8, position_bits=8)
    quantize_checkpoint(source, tmp_path / "q", config)
    original, quantized = Checkpoint.open(str(source)), Checkpoint.open(str(tmp_path / "q"))
    found = weight_stats(quantized, original)
    assert found.changed == ()
    assert {m.block for m in found.matrices} == {None, 0, 1}
    tables = [m for m in found.matrices if m.block is None]
    assert all(m.bits == 8 for m in tables)
    for m in found.matrices:
        assert m.error is not None
        assert m.error.largest < 0.501  # rounding to nearest: an outer weight of the right shape and place
        assert m.error.relative < (0.2 if m.bits == 4 else 0.02)
        assert sum(m.error.histogram) == m.size
        assert m.scales.count == m.rows
        assert 0 < m.code_bits <= m.bits
    alone = weight_stats(quantized, None)
    assert [m.error for m in alone.matrices] == [None] * len(found.matrices)
    assert [m.scales for m in alone.matrices] == [m.scales for m in found.matrices]


def test_norms_that_a_recipe_changed_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = tiny_opt(tmp_path / "m")
    quantize_checkpoint(source, tmp_path / "q", DareqConfig(recipe="rtn"))
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    name = next(n for n in tensors if "layers.1.fc1.bias" in n)
    tensors[name] = tensors[name] + 0.5
    save_file(tensors, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    found = weight_stats(Checkpoint.open(str(tmp_path / "q")), Checkpoint.open(str(source)))
    assert len(found.changed) == 1
    assert found.changed[0].endswith("layers.1.fc1.bias")
