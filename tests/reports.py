"""A report that has something for every section, with text in it that would like to be markup."""

from __future__ import annotations

import math

from dareq_edge.comparison.matrices import MatrixError, WeightErrors
from dareq_edge.comparison.records import Comparison, Production, Row, Run, Score
from dareq_edge.comparison.variants import parse_variant
from dareq_edge.report import ScoreReport
from dareq_edge.reporting.records import (
    BlockEntropies,
    HashedFile,
    Origin,
    Report,
    Sample,
    Samples,
    SizeRow,
    Verdict,
)
from dareq_edge.reporting.statistics import STEP_BINS, ErrorStats, MatrixStats, ScaleStats, WeightStats
from dareq_runtime.verdict import FP32_COMPUTE, INT8_COMPUTE, Link, ParityReport, link_report, verdict

HOSTILE = "</style></script></p><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;\x00\x1b[31m\u202e\ud800"
"""Ends every element it might stand in, and holds what neither HTML nor UTF-8 can."""

_KINDS = ("self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "fc1", "fc2")


def scores() -> list[ScoreReport]:
    rows = [
        ("torch fp32", 2.9123456789),
        ("torch dareq", 2.99),
        ("onnx fp32 compute", 2.9900011),
        ("onnx int8 compute", 2.99123),
    ]
    return [ScoreReport(n, "gptq(window=512)", x, 0.0213, 4088, x * 4088, 18000, HOSTILE) for n, x in rows]


def parity(*, passed: bool = True) -> ParityReport:
    import numpy as np

    found = scores()
    limits = [None, FP32_COMPUTE, INT8_COMPUTE if passed else FP32_COMPUTE]
    links = [
        link_report(Link(a.label, b.label, t), a, b, 0.0012, np.full(10, 1.2345e-3), 0.8765)
        for a, b, t in zip(found, found[1:], limits, strict=False)
    ]
    return verdict(found, links)


def matrix(block: int | None, kind: str, bits: int, error: float | None) -> MatrixStats:
    histogram = tuple(round(1000 * math.exp(-abs(i - STEP_BINS // 2) / 9)) for i in range(STEP_BINS))
    stats = None if error is None else ErrorStats(error, 0.5004321, 3.4567891, 4.7654321, histogram)
    scale = 0.01 * (1 + error if error else 1)
    name = kind if block is None else f"model.decoder.layers.{block}.{kind}"
    scales = ScaleStats(64, scale / 3, scale / 2, scale, scale * 2, scale * 5)
    return MatrixStats(name, block, kind, 64, 128, bits, None, 3.21098, scales, stats)


def weights(blocks: int = 4, *, uneven: bool = True, errors: bool = True) -> WeightStats:
    made = [matrix(None, "embed_tokens", 8, 0.00345 if errors else None)]
    for i in range(blocks):
        for j, kind in enumerate(_KINDS):
            bits = 8 if uneven and (i + j) % 5 == 0 else 4
            made.append(matrix(i, kind, bits, 0.1 + 0.013 * j + 0.004 * i if errors else None))
    made.append(matrix(None, HOSTILE, 8, 0.1 if errors else None))
    return WeightStats(tuple(made), ("model.decoder.final_layer_norm.weight", HOSTILE))


def comparison() -> Comparison:
    base = Score(4088, 3.0, 0.02)
    rows = []
    for i, name in enumerate(("rtn", "rtn@64", "rtn@channel/3", "dareq-reference", "mse")):
        score = Score(4088, 3.1 + 0.1 * i, 0.02, 0.10517 + 0.12 * i, 0.01, 0.0345, 0.81)
        size, errors = 4_000_000 + 300_000 * i, None if i == 3 else matrix_errors(0.08 + 0.01 * i)
        made = Production(1.5 + i, 300_000_000, 200_000_000, size, 4.01 + i / 7, 3_500_000, 3.3, errors)
        runs = (Run(None, made, {"text": score}),)
        rows.append(Row(parse_variant(name, group_size=None, bits=4), True, runs))
    rows.append(Row(parse_variant("hqq@64", group_size=None, bits=4), False, failed=HOSTILE))
    return Comparison(HOSTILE, None, 512, {"text": base}, 11_849_536, 16.0, tuple(rows), "environment")


def matrix_errors(error: float) -> WeightErrors:
    made = [MatrixError("embed_tokens", None, 640, 9.5, 0.004, 3.1, 4.3), MatrixError(HOSTILE, None, 9, 0, 0, 0, 0)]
    for i in range(4):
        for j, kind in enumerate(_KINDS):
            one = error + 0.013 * j + 0.004 * i
            made.append(MatrixError(f"model.decoder.layers.{i}.{kind}", i, 8192, 5.25, one, 3.4567891, 4.7654321))
    return WeightErrors(tuple(made), 3)


def samples() -> Samples:
    rows = (
        Sample("torch fp32", (5, 6, 7), " are the best.", 3),
        Sample("torch dareq", (5, 6, 8), HOSTILE, 2),
        Sample("onnx int8 compute", (), "", 0),
    )
    return Samples(f"The people {HOSTILE}", "The same prompt for every model.", rows)


def origin() -> Origin:
    return Origin(
        command=f"dareq-edge deploy '{HOSTILE}' --out x --report r.html",
        when="2026-01-02T03:04:05+00:00",
        machine={"system": HOSTILE, "cores": "2"},
        versions={"Python": "3.11.7", "numpy": "2.4.6"},
        source=HOSTILE,
        revision="0123456789abcdef",
        source_files=(HashedFile("model.safetensors", 11_849_536, "ab" * 32),),
        folder="x",
        files=(HashedFile(HOSTILE, 12_345, "cd" * 32), HashedFile("model.onnx.data", 3_456_789, "ef" * 32)),
        settings={"bits": "4", "prompt": HOSTILE},
    )


def full_report(*, passed: bool = True) -> Report:
    """Every section has something to show."""
    found = parity(passed=passed)
    state = Verdict("passed", "Parity holds.") if passed else Verdict("FAILED", "Parity is broken.", found.reasons)
    return Report(
        command="deploy",
        subject=HOSTILE,
        verdict=state,
        origin=origin(),
        sizes=(
            SizeRow("fp32", 23_653_376, "base", "5,913,344 parameters"),
            SizeRow(HOSTILE, 11_849_536, "disk", HOSTILE),
            SizeRow("packed folder: download", 3_514_811, "download", "all files"),
            SizeRow("memory to run it, at most", 108_654_321, "memory", "a bound"),
        ),
        scores=found.scores,
        links=found.links,
        weights=weights(),
        entropies=BlockEntropies((4.6051234567, 4.6051234577, 4.6051234597, 4.6051234501), 0.01),
        comparison=comparison(),
        samples=samples(),
        absent={"Something": HOSTILE},
    )
