"""Weight errors of a comparison: against loops, against the report's own measurement, and as records."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from dareq_edge import DareqConfig, dequantized, quantize_checkpoint
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.comparison import errors
from dareq_edge.comparison.errors import matrix_error, weight_errors
from dareq_edge.comparison.floats import write_dequantized
from dareq_edge.comparison.matrices import MatrixError, WeightErrors, entropies, mean_errors, pooled
from dareq_edge.matrix import matrix_of
from dareq_edge.plan import QuantOptions
from dareq_edge.reporting.measure import weight_stats
from tiny_models import TRANSPOSED, save_random, tiny_opt
from tolerances import FLOAT32_ERRORS, FLOAT32_HISTOGRAM, FLOAT64_SUM


def some(name: str, block: int | None, weights: int, norm: float, relative: float) -> MatrixError:
    return MatrixError(name, block, weights, norm, relative, 3.0, 4.0 + relative)


@pytest.mark.parametrize("family", ["opt", "gpt2"])
@pytest.mark.parametrize("group", [None, 32])
def test_a_quantized_checkpoint_has_the_errors_its_report_has(tmp_path: Path, family: str, group: int | None) -> None:
    source = tiny_opt(tmp_path / "m") if family == "opt" else save_random(TRANSPOSED, tmp_path / "m")
    options = QuantOptions(group_size=group, table_bits=8)
    quantize_checkpoint(source, tmp_path / "q", DareqConfig(recipe="rtn", group_size=group, table_bits=8))
    original = Checkpoint.open(str(source))
    found = weight_errors(original, tmp_path / "q", options)
    expected = weight_stats(Checkpoint.open(str(tmp_path / "q")), original)
    assert found.changed == 0
    assert len(found.matrices) > 8
    for mine, reported in zip(found.matrices, expected.matrices, strict=True):
        assert reported.error is not None
        assert (mine.name, mine.block, mine.weights) == (reported.name, reported.block, reported.size)
        assert mine.relative == pytest.approx(reported.error.relative, rel=FLOAT32_ERRORS)
        assert mine.entropy_before == pytest.approx(reported.error.entropy_before, rel=FLOAT32_HISTOGRAM)
        assert mine.entropy_after == pytest.approx(reported.error.entropy_after, rel=FLOAT32_HISTOGRAM)


@pytest.mark.parametrize("family", ["opt", "gpt2"])
def test_a_dequantized_model(tmp_path: Path, family: str) -> None:
    source = tiny_opt(tmp_path / "m") if family == "opt" else save_random(TRANSPOSED, tmp_path / "m")
    original, options = Checkpoint.open(str(source)), QuantOptions(group_size=64)
    write_dequantized(original, tmp_path / "q", options, dequantized.build("nf4"))
    found = weight_errors(original, tmp_path / "q", options)
    model = original.empty_model()
    names = original.bind(model)
    made = Checkpoint.open(str(tmp_path / "q"))
    assert {m.block for m in found.matrices} >= {0, 1}
    for m in found.matrices:
        layer = model.get_submodule(m.name)
        w, after = (
            matrix_of(layer, t).double().numpy()
            for t in (original.tensor(names[f"{m.name}.weight"]), made.tensor(f"{m.name}.weight"))
        )
        assert m.norm == pytest.approx(math.sqrt((w**2).sum()), rel=FLOAT64_SUM)
        assert m.relative == pytest.approx(math.sqrt(((w - after) ** 2).sum() / (w**2).sum()), rel=FLOAT32_ERRORS)
        assert 0.05 < m.relative < 0.2


def test_other_tensors_that_changed_are_counted(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    quantize_checkpoint(source, tmp_path / "q", DareqConfig(recipe="rtn"))
    tensors = load_file(tmp_path / "m/model.safetensors")
    name = next(n for n in tensors if "layers.1.fc1.bias" in n)
    tensors[name] = tensors[name] + 0.5
    save_file(tensors, tmp_path / "m/model.safetensors", {"format": "pt"})
    found = weight_errors(Checkpoint.open(str(source)), tmp_path / "q", QuantOptions())
    assert found.changed == 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 100), st.integers(1, 50), st.floats(1e-6, 1e4))
def test_a_matrix_in_pieces(seed: int, n: int, k: int, rows: int, size: float) -> None:
    draw = np.random.default_rng(seed)
    w = draw.normal(0, size, (n, k)).astype(np.float32)
    after = w + draw.laplace(0, 0.1 * size, (n, k)).astype(np.float32)
    with mock.patch.object(errors, "row_blocks", lambda n, k: (slice(i, i + rows) for i in range(0, n, rows))):
        found = matrix_error("m", 3, torch.from_numpy(w), torch.from_numpy(after))
    r = (w - after).astype(np.float64)
    assert (found.name, found.block, found.weights) == ("m", 3, n * k)
    assert found.relative == pytest.approx(
        math.sqrt((r**2).sum() / (w.astype(np.float64) ** 2).sum()), rel=FLOAT32_ERRORS
    )
    moved = 2 * math.log(n * k + 1) / (n * k)  # what one value in a neighbouring bin can change
    for entropy, x in ((found.entropy_before, w.astype(np.float64)), (found.entropy_after, r)):
        p = np.histogram(x, 128)[0] / x.size
        assert entropy == pytest.approx(-sum(q * math.log(q) for q in p if q), abs=moved + FLOAT64_SUM)


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_equal_values_have_no_entropy(value: float) -> None:
    w = torch.full((3, 5), value)
    found = matrix_error("m", None, w, w.clone())
    assert (found.relative, found.entropy_before, found.entropy_after) == (0, 0, 0)


def test_matrices_are_pooled_by_their_norms() -> None:
    found = WeightErrors(
        (some("a", 0, 10, 3.0, 0.1), some("b", 0, 20, 4.0, 0.2), some("c", 2, 5, 2.0, 0.5), some("d", None, 1, 0, 0))
    )
    blocks = found.by_block()
    assert {i: [m.name for m in matrices] for i, matrices in blocks.items()} == {0: ["a", "b"], 2: ["c"]}
    assert pooled(blocks[0]) == pytest.approx(math.sqrt(0.3**2 + 0.8**2) / 5)
    assert pooled(blocks[2]) == pytest.approx(0.5)
    assert pooled(found.matrices) == pytest.approx(math.sqrt(0.3**2 + 0.8**2 + 1) / math.sqrt(29))
    assert found.worst.name == "c"
    assert entropies(found.matrices) == pytest.approx((3.0, (10 * 4.1 + 20 * 4.2 + 5 * 4.5 + 4) / 36))
    assert pooled([some("d", None, 1, 0, 0)]) == 0


def test_means_over_seeds() -> None:
    runs = [WeightErrors((some("a", 0, 10, 3.0, error),), changed) for error, changed in ((0.25, 2), (0.75, 4))]
    assert mean_errors(runs) == WeightErrors((some("a", 0, 10, 3.0, 0.5),), 4)
    assert mean_errors([runs[0], None]) is None
    assert mean_errors([]) is None


def test_a_record_comes_back() -> None:
    found = WeightErrors((some("a", 0, 10, 3.0, 0.1), some("b", None, 1, 0, 0)), 7)
    assert WeightErrors.from_json(json.loads(json.dumps(asdict(found)))) == found
