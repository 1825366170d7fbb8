from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

import tolerances
from dareq_edge.errors import ExportError
from dareq_export.passes.int8_cache import Int8CachePass
from pass_graphs import DOMAIN, HEADS, WIDTH, H, compute, floats, graph

PAST, NEW = 6, 3


def attention() -> ir.Model:
    node = helper.make_node(
        "GroupQueryAttention",
        ["q", "k", "v", "past_key_values.0.key", "past_key_values.0.value", "seqlens", "total"],
        ["y", "present.0.key", "present.0.value"],
        domain=DOMAIN, num_heads=HEADS, kv_num_heads=HEADS, scale=0.5, do_rotary=0,
    )  # fmt: skip
    inputs = [floats(n, 1, NEW, H) for n in "qkv"]
    inputs += [floats(f"past_key_values.0.{n}", 1, HEADS, PAST, WIDTH) for n in ("key", "value")]
    inputs.append(helper.make_tensor_value_info("seqlens", TensorProto.INT32, [1]))
    outputs = [floats("y", 1, NEW, H)]
    outputs += [floats(f"present.0.{n}", 1, HEADS, PAST + NEW, WIDTH) for n in ("key", "value")]
    return graph([node], inputs, outputs, {"total": np.array(PAST + NEW, np.int32)})


def feeds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {n: rng.standard_normal((1, NEW, H)).astype(np.float32) for n in "qkv"}
    for name in ("key", "value"):
        made[f"past_key_values.0.{name}"] = rng.standard_normal((1, HEADS, PAST, WIDTH)).astype(np.float32)
    return made | {"seqlens": np.array([PAST + NEW - 1], np.int32)}


def rounded(x: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """The literal format: codes in -128..127 times range / 127."""
    return np.clip(np.rint(x / (ranges[:, None, :] / 127)), -128, 127).astype(np.int8)


def test_attention_over_codes_is_attention_over_what_they_mean() -> None:
    floating, given = attention(), feeds()
    ranges = {
        f"past_key_values.0.{n}": np.random.default_rng(i).uniform(1, 3, (HEADS, WIDTH)).astype(np.float32)
        for i, n in enumerate(("key", "value"))
    }
    model = attention()
    assert Int8CachePass(ranges)(model).modified
    codes = {name: rounded(given[name], r) for name, r in ranges.items()}
    found = compute(model, given | codes)
    new = {n: given[n].reshape(1, NEW, HEADS, WIDTH).transpose(0, 2, 1, 3) for n in "kv"}
    for output, name, x in zip(found[1:], ("key", "value"), ("k", "v"), strict=True):
        assert output.dtype == np.int8
        wanted = rounded(new[x], ranges[f"past_key_values.0.{name}"])
        np.testing.assert_array_equal(output, np.concatenate([codes[f"past_key_values.0.{name}"], wanted], axis=2))
    meant = {n: c.astype(np.float32) * ranges[n][:, None, :] / 127 for n, c in codes.items()}
    for x, name in (("k", "key"), ("v", "value")):
        r = ranges[f"past_key_values.0.{name}"]
        meant[x] = (rounded(new[x], r) * r[:, None, :] / 127).transpose(0, 2, 1, 3).reshape(1, NEW, H)
    wanted = compute(floating, given | {n: a.astype(np.float32) for n, a in meant.items()})[0]
    assert np.abs(found[0] - wanted).max() <= tolerances.CACHE_KERNEL * np.abs(wanted).max()


def test_a_missing_range_is_an_error_that_names_the_cache() -> None:
    with pytest.raises(ExportError, match=r"past_key_values\.0\.key"):
        Int8CachePass({})(attention())
