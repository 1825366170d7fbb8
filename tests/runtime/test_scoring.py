from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import tolerances
from dareq_edge.errors import DataError, ParityError, SpecError
from dareq_edge.report import ScoreReport
from dareq_runtime import OnnxModel, Scorer
from dareq_runtime.scoring import log_softmax, mean_and_error, predictions, score, token_nll
from dareq_runtime.tokens import TokenSet
from dareq_runtime.windows import Window, make_protocol
from tiny_decoder import TinyDecoder

RNG = np.random.default_rng(0)


def random_text(n: int, vocab: int = 8, *, sizes: bool = False) -> TokenSet:
    ids = np.random.default_rng(n).integers(0, vocab, n)
    return TokenSet((ids,), "text", "text", (np.full(n, 3),) if sizes else None)


def test_token_nll_is_exact_for_extreme_logits() -> None:
    logits = np.array([[1e4, 0, -1e4], [0, 0, 0], [-3e38, 0, 0]], dtype=np.float32)
    expected = [2e4, math.log(3), math.log(2)]
    assert np.allclose(token_nll(logits, np.array([2, 1, 1])), expected, rtol=0, atol=tolerances.NLL_FLOAT64)


def test_token_nll_agrees_with_log_softmax_over_many_rows() -> None:
    logits = RNG.normal(0, 5, (41, 300)).astype(np.float32)
    targets = RNG.integers(0, 300, 41)
    expected = -log_softmax(logits)[np.arange(41), targets]
    assert np.abs(token_nll(logits, targets) - expected).max() < 100 * tolerances.NLL_FLOAT64


def test_uniform_model_has_the_vocabulary_as_perplexity(table_scorer: Callable[..., Scorer]) -> None:
    report = score(table_scorer(np.zeros((8, 8), np.float32)), random_text(100, sizes=True), make_protocol("gptq"))
    assert report.ppl == pytest.approx(8, abs=tolerances.NLL_FLOAT64 * 8)
    assert report.stderr < tolerances.NLL_FLOAT64 * 8
    assert (report.protocol, report.tokens) == ("gptq(window=16)", 6 * 15)
    assert report.bits_per_byte == pytest.approx(1.0)
    assert "numpy" in report.environment


@pytest.mark.parametrize("chunk", [1, 3, 5, 128])
@pytest.mark.parametrize("first", [1, 4, 9])
def test_predictions_pair_each_row_with_the_next_token(
    table_scorer: Callable[..., Scorer], chunk: int, first: int
) -> None:
    table = np.eye(10, dtype=np.float32)
    ids = np.arange(10)
    found = list(predictions([table_scorer(table)], Window(ids, first, 0, 0), chunk))
    assert np.concatenate([t for _, t in found]).tolist() == list(range(first, 10))
    for (logits,), targets in found:
        assert (logits.argmax(1) + 1).tolist() == targets.tolist()


def test_score_equals_the_definition(fp32: OnnxModel, tiny: TinyDecoder) -> None:
    ids = np.random.default_rng(5).integers(4, 96, 100)
    report = fp32.score(TokenSet((ids,), "x"), make_protocol("gptq", window=24))
    means = []
    for start in range(0, 96, 24):
        window = ids[start : start + 24]
        z = tiny.logits(window)[:-1]
        log = z - z.max(1, keepdims=True)
        log -= np.log(np.exp(log).sum(1, keepdims=True))
        means.append(-log[np.arange(23), window[1:]].mean())
    assert report.nll == pytest.approx(np.mean(means), rel=tolerances.RUNTIME_NLL)
    assert report.label == "onnx fp32 compute"


def test_lines_weigh_alike(table_scorer: Callable[..., Scorer]) -> None:
    table = np.zeros((8, 8), np.float32)
    table[1, 2] = 50.0
    tokens = TokenSet((np.array([1, 2]), np.array([3, 4, 5, 6, 7])), "x", "lines")
    report = score(table_scorer(table), tokens, make_protocol("lines"))
    assert report.nll == pytest.approx(math.log(8) / 2)
    assert report.nll_sum == pytest.approx(4 * math.log(8))
    assert report.stderr_nll == pytest.approx(math.log(8) / 2)


def test_standard_error_knows_that_windows_hang_together() -> None:
    rng = np.random.default_rng(0)
    means, errors = [], []
    for _ in range(200):
        losses = [rng.normal(3, 0.5) + rng.normal(0, 1, 20) for _ in range(40)]
        mean, error = mean_and_error(losses, "token")
        means.append(mean)
        errors.append(error)
    assert np.mean(errors) / np.std(means) == pytest.approx(1, abs=tolerances.STDERR_RATIO)
    single = np.std(np.concatenate(losses)) / np.sqrt(800)
    assert np.mean(errors) > 1.5 * single


def test_standard_error_of_one_window_uses_blocks() -> None:
    mean, error = mean_and_error([np.arange(128.0)], "token")
    assert mean == pytest.approx(63.5)
    assert error == pytest.approx(math.sqrt(2 * 2 * (64 * 32) ** 2) / 128)
    assert mean_and_error([np.array([1.0]), np.array([3.0])], "token") == (2.0, pytest.approx(1.0))
    with pytest.raises(DataError, match="fewer than 2"):
        mean_and_error([np.array([1.0])], "token")


def test_progress_reaches_its_total(table_scorer: Callable[..., Scorer]) -> None:
    calls: list[tuple[str, int, int]] = []
    scorer = table_scorer(np.zeros((8, 8), np.float32))
    score(scorer, random_text(40), make_protocol("strided"), chunk=4, progress=lambda *a: calls.append(a))
    assert calls[-1] == ("scoring", 39, 39)
    assert [d for _, d, _ in calls] == sorted({d for _, d, _ in calls})


def test_errors(table_scorer: Callable[..., Scorer]) -> None:
    scorer = table_scorer(np.zeros((8, 8), np.float32))
    with pytest.raises(DataError, match="vocabulary is 8"):
        score(scorer, random_text(50, vocab=99), make_protocol("gptq"))
    with pytest.raises(SpecError, match="context is 16"):
        score(scorer, random_text(50), make_protocol("gptq", window=17))
    broken = table_scorer(np.full((8, 8), np.nan, np.float32), label="broken one")
    with pytest.raises(ParityError, match="broken one gives logits that are not finite"):
        score(broken, random_text(50), make_protocol("gptq"))


def test_report_survives_json(fp32: OnnxModel) -> None:
    report = fp32.score(random_text(60), make_protocol("strided", window=8))
    assert ScoreReport.from_json(report.to_json()) == report
