"""Graph passes, one per file, and the order they run in."""

from __future__ import annotations

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
from dareq_export.passes.skip_norm import SkipNormPass
from dareq_export.passes.standard_norm import StandardNormPass


class _FoldPass(ir.passes.InPlacePass):
    """onnxscript's constant folding and its algebraic rewrite rules."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fold; constants up to 1 MB, so that rotary tables are computed once, here."""
        optimizer.optimize_ir(model, input_size_limit=1 << 20, output_size_limit=1 << 20)
        rewriter.rewrite(model)
        return ir.passes.PassResult(model, modified=True)


def clean(model: ir.Model) -> list[Join]:
    """Run every pass, in place.

    The weights must not be initializers yet: folding would read them.

    Returns:
        The parameters that passes joined.
    """
    joins: list[Join] = []
    ir.passes.Sequential(
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
        SkipNormPass(),
        StandardNormPass(),
        LastPositionsPass(),
        common.RemoveUnusedNodesPass(),
        common.ClearMetadataAndDocStringPass(),  # stack traces name files of the machine that exported
        common.RemoveUnusedOpsetsPass(),
    )(model)
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
    "SkipNormPass",
    "StandardNormPass",
    "clean",
]
