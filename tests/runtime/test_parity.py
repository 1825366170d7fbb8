from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

import tolerances
from dareq_edge.errors import ParityError, SpecError
from dareq_runtime import OnnxModel, Scorer
from dareq_runtime.parity import chain, compare
from dareq_runtime.scoring import score
from dareq_runtime.tokens import TokenSet
from dareq_runtime.verdict import FP32_COMPUTE, INT8_COMPUTE, Link, compare_scores
from dareq_runtime.windows import make_protocol
from tiny_decoder import TinyDecoder

TOKENS = TokenSet((np.random.default_rng(0).integers(0, 8, 200),), "text")
TABLE = np.random.default_rng(1).normal(0, 1, (8, 8)).astype(np.float32)
GPTQ = make_protocol("gptq")


def four(make: Callable[..., Scorer], shifts: tuple[float, ...]) -> list[Scorer]:
    """Models whose tables are the common one times 1 + shift."""
    labels = ("torch fp32", "torch DARE-Q", "onnx fp32 compute", "onnx int8 compute")
    return [make((TABLE * (1 + s)).astype(np.float32), label=n) for n, s in zip(labels, shifts, strict=True)]


def run(scorers: list[Scorer]):
    a, b, c, d = scorers
    return compare(*chain(original=a, quantized=b, fp32=c, int8=d), TOKENS, GPTQ)


def test_the_whole_chain_holds(table_scorer: Callable[..., Scorer]) -> None:
    report = run(four(table_scorer, (0.5, 0.0, 1e-6, 1e-3)))
    assert report.passed
    assert report.broken is None
    report.require()
    assert [str(k) for k in report.links] == [
        "torch fp32 -> torch DARE-Q",
        "torch DARE-Q -> onnx fp32 compute",
        "onnx fp32 compute -> onnx int8 compute",
        "torch fp32 -> onnx int8 compute",
    ]
    assert [k.tolerance for k in report.links] == [None, "fp32 compute", "int8 compute", None]
    assert abs(report.links[0].delta_ppl) > 0.01, "quantization may cost what it costs"


@pytest.mark.parametrize(
    ("shifts", "broken"),
    [
        ((0, 0, 0.1, 0.1), "torch DARE-Q -> onnx fp32 compute"),
        ((0, 0, -0.1, -0.1), "torch DARE-Q -> onnx fp32 compute"),
        ((0, 0, 0, 0.3), "onnx fp32 compute -> onnx int8 compute"),
        ((0, 0, 0.1, 0.5), "torch DARE-Q -> onnx fp32 compute"),
    ],
)
def test_the_broken_link_is_named(table_scorer: Callable[..., Scorer], shifts: tuple, broken: str) -> None:
    report = run(four(table_scorer, shifts))
    assert not report.passed
    assert report.broken == broken
    with pytest.raises(ParityError, match=f"link {broken} broke: perplexity differs by"):
        report.require()


def test_numbers_equal_their_definitions(table_scorer: Callable[..., Scorer]) -> None:
    rng = np.random.default_rng(2)
    other = (TABLE + rng.normal(0, 1, TABLE.shape)).astype(np.float32)
    a, b = table_scorer(TABLE, label="a"), table_scorer(other, label="b")
    report = compare([a, b], [Link("a", "b")], TOKENS, GPTQ)
    p = np.exp(TABLE.astype(float)) / np.exp(TABLE.astype(float)).sum(1, keepdims=True)
    q = np.exp(other.astype(float)) / np.exp(other.astype(float)).sum(1, keepdims=True)
    kl = (p * np.log(p / q)).sum(1)
    seen = np.concatenate([TOKENS.sequences[0][s : s + 15] for s in range(0, 192, 16)])
    link = report.links[0]
    assert link.kl_mean == pytest.approx(kl[seen].mean())
    assert link.kl_p99 == pytest.approx(np.percentile(kl[seen], 99))
    assert link.top1_agreement == pytest.approx((p.argmax(1) == q.argmax(1))[seen].mean())
    assert 0 < link.top1_agreement < 1
    for together, alone in zip(report.scores, (score(a, TOKENS, GPTQ), score(b, TOKENS, GPTQ)), strict=True):
        assert together.nll == pytest.approx(alone.nll, abs=tolerances.NLL_FLOAT64)
        assert (together.label, together.protocol, together.tokens) == (alone.label, alone.protocol, alone.tokens)
    assert link.delta_ppl == pytest.approx(report.scores[1].ppl / report.scores[0].ppl - 1)
    assert link.delta_ppl_stderr is not None
    assert 0 < link.delta_ppl_stderr < report.scores[0].stderr


def test_identical_models_are_identical(table_scorer: Callable[..., Scorer]) -> None:
    link = run(four(table_scorer, (0, 0, 0, 0))).links[1]
    assert (link.delta_ppl, link.delta_ppl_stderr, link.kl_mean, link.kl_p99, link.top1_agreement) == (0, 0, 0, 0, 1)


def test_json_has_no_surprises(table_scorer: Callable[..., Scorer]) -> None:
    data = json.loads(json.dumps(run(four(table_scorer, (0, 0, 0.1, 0))).to_json(), allow_nan=False))
    assert data["passed"] is False
    assert len(data["scores"]) == len(data["links"]) == 4
    assert {"ppl", "stderr", "tokens", "protocol"} <= set(data["scores"][0])


def test_nan_names_the_model(table_scorer: Callable[..., Scorer]) -> None:
    with pytest.raises(ParityError, match="onnx int8 compute gives logits that are not finite"):
        run(four(table_scorer, (0, 0, 0, math.nan)))


def test_onnx_against_numpy(fp32: OnnxModel, int8: OnnxModel, tiny: TinyDecoder) -> None:
    class Numpy:
        label, context_length, vocab_size = "numpy", tiny.shape.context, tiny.shape.vocab

        def chunk_logits(self, ids: np.ndarray, chunk: int = 128):
            logits = tiny.logits(ids).astype(np.float32)
            for start in range(0, len(ids), chunk):
                yield logits[start : start + chunk]

    tokens = TokenSet((np.random.default_rng(3).integers(4, 96, 480),), "x")
    calls: list[tuple[str, int, int]] = []
    scorers, links = chain(quantized=Numpy(), fp32=fp32, int8=int8)
    report = compare(scorers, links, tokens, GPTQ, chunk=10, progress=lambda *a: calls.append(a))
    assert report.links[0].passed
    assert abs(report.links[0].delta_ppl) < tolerances.RUNTIME_NLL
    assert report.links[0].kl_p99 < 1e-6 < report.links[1].kl_mean
    assert calls[-1] == ("comparing", 470, 470)


def test_scores_alone(table_scorer: Callable[..., Scorer]) -> None:
    a, b = four(table_scorer, (0, 1e-4, 0, 0))[:2]
    one, two = score(a, TOKENS, GPTQ), score(b, TOKENS, GPTQ)
    assert compare_scores(one, two, INT8_COMPUTE).passed
    strict = compare_scores(one, two, FP32_COMPUTE)
    assert strict.passed == (abs(two.ppl / one.ppl - 1) <= 1e-4)
    assert strict.links[0].kl_mean is None
    with pytest.raises(SpecError, match="not comparable"):
        compare_scores(one, score(b, TOKENS, make_protocol("strided")), INT8_COMPUTE)


def test_misuse(table_scorer: Callable[..., Scorer]) -> None:
    a, b = table_scorer(TABLE, label="a"), table_scorer(TABLE, label="a")
    with pytest.raises(SpecError, match="same label"):
        compare([a, b], [Link("a", "a")], TOKENS, GPTQ)
    with pytest.raises(SpecError, match="no model is labelled 'c'"):
        compare([a], [Link("a", "c")], TOKENS, GPTQ)
    with pytest.raises(SpecError, match="at least two"):
        chain(fp32=a)
    with pytest.raises(SpecError, match="vocabularies differ"):
        compare([a, table_scorer(TABLE[:, :7], label="b")], [Link("a", "b")], TOKENS, GPTQ)
