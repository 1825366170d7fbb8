"""Graph passes, one per file, and the order they run in.

Residual sums stay outside the norms: onnxruntime 1.32's SkipLayerNormalization takes 6 µs where Add and
LayerNormalization take 2.5 (one token, width 768), and 345 where they take 81 (128 tokens).
"""

from __future__ import annotations

from collections.abc import Container

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer, rewriter

from dareq_export.joins import Join
from dareq_export.passes.flat_regions import FlatRegionsPass
from dareq_export.passes.joined_projections import JoinedAttentionPass, JoinedGatePass
from dareq_export.passes.last_positions import LastPositionsPass
from dareq_export.passes.query_scale import QueryScalePass
from dareq_export.passes.reshape_chains import ReshapeChainsPass
from dareq_export.passes.rms_norm import RmsNormPass
from dareq_export.passes.rotary import RotaryPass
from dareq_export.passes.standard_norm import StandardNormPass


class _FoldPass(ir.passes.InPlacePass):
    """onnxscript's constant folding and its algebraic rewrite rules."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold; constants up to 1 MB, so that rotary tables are computed once, here."""
        optimizer.optimize_ir(model, input_size_limit=1 << 20, output_size_limit=1 << 20)
        rewriter.rewrite(model)
        return ir.passes.PassResult(model, modified=True)


def clean(model: ir.Model, without: Container[str] = ()) -> list[Join]:
    """Run every pass, in place.

    The weights must not be initializers yet: folding would read them.

    Args:
        model: As captured.
        without: Names of pass classes to leave out, to measure what each is worth.

    Returns:
        The parameters that passes joined.
    """
    joins: list[Join] = []
    passes = [
        _FoldPass(),
        RmsNormPass(),
        RotaryPass(),
        ReshapeChainsPass(),
        common.RemoveUnusedNodesPass(),
        FlatRegionsPass(),
        QueryScalePass(),
        JoinedAttentionPass(joins),
        JoinedGatePass(joins),
        common.RemoveUnusedNodesPass(),
        StandardNormPass(),
        LastPositionsPass(),
        common.RemoveUnusedNodesPass(),
        common.ClearMetadataAndDocStringPass(),  # stack traces name files of the machine that exported
        common.RemoveUnusedOpsetsPass(),
    ]
    ir.passes.Sequential(*(p for p in passes if type(p).__name__ not in without))(model)
    return joins


__all__ = [
    "FlatRegionsPass",
    "JoinedAttentionPass",
    "JoinedGatePass",
    "LastPositionsPass",
    "QueryScalePass",
    "ReshapeChainsPass",
    "RmsNormPass",
    "RotaryPass",
    "StandardNormPass",
    "clean",
]
