"""What quantization did to every matrix: error, residuals, their entropy before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dareq_edge.reporting.charts.frame import Words
from dareq_edge.reporting.charts.histogram import histogram, spark
from dareq_edge.reporting.charts.lines import Point, lines
from dareq_edge.reporting.kinds import by_block
from dareq_edge.reporting.markup import Markup, el, join
from dareq_edge.reporting.numbers import number, short
from dareq_edge.reporting.records import Report
from dareq_edge.reporting.section import Section
from dareq_edge.reporting.statistics import BINS, STEP_BINS, STEP_RANGE, ErrorStats, MatrixStats
from dareq_edge.reporting.table import table


def body(report: Report) -> Markup | None:
    """Charts by block, the histogram of all residuals, and a row per matrix."""
    if report.weights is None:
        return None
    known = [(m, m.error) for m in report.weights.matrices if m.error is not None]
    if not known:
        return None
    matrices = [m for m, _ in known]
    worst, error = max(known, key=lambda pair: pair[1].relative)
    charts = [
        lines(
            Words(
                "weights-error",
                "Weight error by block, ‖W - Ŵ‖ / ‖W‖",
                f"One line per kind of matrix; the largest error of all matrices is {short(error.relative)}, "
                f"in {worst.name}.",
            ),
            by_block(matrices, lambda m: Point(m.block or 0, _of(m).relative)),
            "decoder block",
            "relative error",
        ),
        lines(
            Words(
                "weights-entropy",
                "Residual entropy by block, after quantization",
                f"One line per kind of matrix, nats; the most that {BINS} bins allow is {math.log(BINS):.3f}.",
            ),
            by_block(matrices, lambda m: Point(m.block or 0, _of(m).entropy_after)),
            "decoder block",
            "entropy, nats",
            reference=(math.log(BINS), "even spread"),
        ),
        lines(
            Words(
                "weights-before",
                "Entropy of the weights by block, before quantization",
                "One line per kind of matrix, nats: the same histogram of the float weights.",
            ),
            by_block(matrices, lambda m: Point(m.block or 0, _of(m).entropy_before)),
            "decoder block",
            "entropy, nats",
        ),
        _residuals([e for _, e in known], sum(m.size for m in matrices)),
    ]
    changed = report.weights.changed
    return join(
        el("div", *charts, class_="charts"),
        el("details", el("summary", f"All {len(known)} matrices"), _table(known), open=len(known) <= 60 or None),
        el("p", _MEANING, class_="soft"),
        el("p", _moved(changed)) if changed else None,
    )


def _of(matrix: MatrixStats) -> ErrorStats:
    assert matrix.error is not None
    return matrix.error


def _residuals(errors: Sequence[ErrorStats], weights: int) -> Markup:
    counts = [sum(e.histogram[i] for e in errors) for i in range(STEP_BINS)]
    shares = [c / weights for c in counts]
    width = 2 * STEP_RANGE / STEP_BINS
    beyond = 1 - sum(shares[STEP_BINS // 2 - 10 : STEP_BINS // 2 + 11])
    rows = [(f"{-STEP_RANGE + (i + 0.5) * width:+.2f}", number(c, "{:,}")) for i, c in enumerate(counts)]
    words = Words(
        "weights-residuals",
        "Residuals of all weights, in steps",
        f"Shares of residuals between -1 and 1 steps, outer ones in the last bins; {100 * beyond:.2f} % are more "
        "than 0.525 steps.",
    )
    return histogram(
        words, shares, -STEP_RANGE, STEP_RANGE, "residual / scale", table("Residuals", ("steps", "weights"), rows)
    )


def _table(known: Sequence[tuple[MatrixStats, ErrorStats]]) -> Markup:
    columns = (
        "matrix",
        "shape",
        "error, %",
        "SNR, dB",
        "largest, steps",
        "residuals, ±1 step",
        "entropy before",
        "entropy after",
    )
    rows = [
        (
            m.name,
            f"{m.rows:,} by {m.columns:,}",
            number(e.relative, "{:.3f}", 100),
            f"{e.decibels:.2f}",
            number(e.largest, "{:.3f}"),
            spark(e.histogram),
            number(e.entropy_before, "{:.4f}"),
            number(e.entropy_after, "{:.4f}"),
        )
        for m, e in known
    ]
    return table("Weight error and residual entropy, nats", columns, rows)


def _moved(changed: Sequence[str]) -> str:
    some = ", ".join(changed[:4]) + (" and others" if len(changed) > 4 else "")
    return (
        f"The recipe also changed {len(changed)} float tensors ({some}). Where it moved factors between a norm and "
        "the matrices behind it, that move counts as weight error here, although the model computes the same."
    )


_MEANING = (
    "W are the float weights, Ŵ what the codes stand for, a step is the scale of the weight's row or group. Rounding "
    "to nearest leaves at most half a step; further out weights were clipped, or moved on purpose by recipes that "
    "make up for errors elsewhere: a smaller weight error is not always a better model, perplexity decides. Factors "
    "that a recipe moved from one matrix into another (dareq-entropy) count as weight error too. Entropy "
    f"is -Σ p ln p over {BINS} equal bins between the smallest and the largest value: before quantization that of "
    "the weights, after it that of the residuals."
)
SECTION = Section(30, "weights", "Weights before and after", body)
