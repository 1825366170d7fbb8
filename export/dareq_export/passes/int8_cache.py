"""Pass: keys and values are kept in 8 bits, one scale per channel.

The cache of an OPT-125m is 74 kB a token in float32: at 1,024 tokens it is larger than all its 4-bit weights, and
every step reads it whole. GroupQueryAttention rounds new keys and values on their way into the cache,
code = round(x / scale) in -128..127, and multiplies while it reads (onnxruntime >= 1.30 on the CPU).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from dareq_edge.errors import ExportError
from dareq_export.passes import _graph

PAST_KEY, KEY_SCALE, VALUE_SCALE = 3, 12, 13
"""Inputs of GroupQueryAttention, see onnxruntime ContribOperators.md (1.32)."""

Ranges = Mapping[str, NDArray[np.float32]]
"""Largest magnitude per channel, float32 [kv_heads, head_dim], by cache input ("past_key_values.0.key")."""

LEVELS = 127


class Int8CachePass(ir.passes.InPlacePass):
    """Give every attention an int8 cache.

    Args:
        ranges: For every cache input; what exceeds a range is clipped.
    """

    def __init__(self, ranges: Ranges) -> None:
        super().__init__()
        self._ranges = ranges

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Add scales, and make past and present int8.

        Raises:
            ExportError: A range is missing or of another shape.
        """
        modified = False
        for node in _graph.attentions(model.graph):
            past = node.inputs[PAST_KEY : PAST_KEY + 2]
            scales = [self._scale(model.graph, value) for value in past]
            inputs = [*node.inputs, *[None] * VALUE_SCALE][: VALUE_SCALE + 1]
            inputs[KEY_SCALE : VALUE_SCALE + 1] = scales
            node.resize_inputs(len(inputs))
            for index, value in enumerate(inputs):
                node.replace_input_with(index, value)
            for name in ("k_quant_type", "v_quant_type"):
                node.attributes[name] = ir.AttrString(name, "PER_CHANNEL")
            node.attributes["kv_cache_bit_width"] = ir.AttrInt64("kv_cache_bit_width", 8)
            for value in (*past, *node.outputs[1:3]):
                if value is not None:
                    value.type = ir.TensorType(ir.DataType.INT8)
            modified = True
        return ir.passes.PassResult(model, modified)

    def _scale(self, graph: ir.Graph, past: ir.Value | None) -> ir.Value:
        """The initializer [1, kv_heads, 1, head_dim] of one cache."""
        name = "" if past is None else str(past.name)
        found = self._ranges.get(name)
        shape = None if past is None or past.shape is None else (past.shape[1], past.shape[3])
        if found is None or found.shape != shape or not np.isfinite(found).all():
            has = "none" if found is None else f"{found.shape}, or not finite"
            raise ExportError(f"the cache {name} needs ranges {shape}, there is {has}; measure the ranges again")
        array = np.maximum(found, np.finfo(np.float32).tiny * LEVELS)[None, :, None, :] / np.float32(LEVELS)
        tensor = ir.tensor(array.astype(np.float32), name=f"{name}.scale")
        value = ir.Value(
            name=tensor.name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.FLOAT),
            const_value=tensor,
        )
        graph.register_initializer(value)
        return value
