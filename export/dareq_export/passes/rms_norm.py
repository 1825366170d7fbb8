"""Pass: a decomposed RMSNorm → SimplifiedLayerNormalization, onnxruntime's operator for it.

The pattern is onnxscript's own (``onnxscript.rewriter.ort_fusions.rms_normalization``); what is added is the proof
that the scale is one number per channel, which the operator needs and the pattern does not check. Weights are graph
inputs when passes run, so Gemma's ``1 + weight`` stays an Add in front of the scale.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import pattern
from onnxscript.rewriter.ort_fusions.rms_normalization import RmsNormFusion


class _ChannelScale(RmsNormFusion):  # type: ignore[misc]  # onnxscript ships no types for it
    """The rule with the shapes checked."""

    def check(self, op: Any, x: ir.Value, scale: ir.Value, **bound: Any) -> pattern.MatchResult:
        """Accept a match whose scale is [C] and whose input is [..., C] with a known C."""
        result: pattern.MatchResult = super().check(op, x, scale, **bound)
        if result and not _one_per_channel(scale, x):
            return pattern.MatchResult().fail("the scale is not one number per channel", scale)
        return result


def _one_per_channel(scale: ir.Value, x: ir.Value) -> bool:
    if scale.shape is None or x.shape is None or len(scale.shape) != 1 or len(x.shape) == 0:
        return False
    return isinstance(x.shape[-1], int) and scale.shape[0] == x.shape[-1]


class RmsNormPass(ir.passes.InPlacePass):
    """Fuse every RMSNorm over the last axis; intermediate results that something else reads prevent it."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply both orders of the last product."""
        rules = [_ChannelScale.rule(f"RmsNorm{i}", _mul_order=order) for i, order in enumerate((False, True))]
        count = pattern.RewriteRuleSet(rules).apply_to_model(model)
        return ir.passes.PassResult(model, modified=count > 0)
