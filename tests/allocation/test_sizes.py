"""Sizes before anything is written against the bytes of real exports, whose matrices have forms of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, CohereConfig, GraniteConfig, Olmo2Config

import tolerances
from dareq_edge.allocation.sizes import exported_size, fixed_bytes, matrix_bytes, matrix_shapes
from dareq_edge.hf import DareqConfig
from dareq_edge.manifest import Manifest
from dareq_edge.plan import QuantOptions, plan_model
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.spec import QuantSpec
from dareq_export import export_onnx
from dareq_export.planned import planned_size
from dareq_export.profiles import ProfileName
from exported import distance_from_transformers
from fast import slow
from mixed_plans import LLAMA, LLAMA_JOINED, OPT, OPT_JOINED
from tiny_models import SPECIAL, rotary_configs, tiny_llama, tiny_opt

MINI = Path(__file__).parents[2] / "examples/models/opt-mini"
RTN = DareqConfig(method="rtn")


def empty_model(folder: Path) -> torch.nn.Module:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    model.tie_weights()
    return model


@pytest.mark.parametrize(
    ("shape", "spec", "size"),
    [
        ((64, 256), QuantSpec(4), 64 * 128 + 64 * 4),
        ((64, 768), QuantSpec(4), 64 * 384 + 64 * 3 * 4),  # a row's scale once per block of 256
        ((64, 768), QuantSpec(2), 64 * 384 + 64 * 3 * 4),  # 2 and 3 bits in containers of 4
        ((64, 768), QuantSpec(8), 64 * 768 + 64 * 3 * 4),
        ((64, 768), QuantSpec(5, 32), 64 * 768 + 64 * 24 * 4),
        ((64, 100), QuantSpec(4), 64 * 64 + 64 * 4),  # no block divides 100: one of 128, padded
        ((10, 64), QuantSpec(4), 320 + 64),  # 40 bytes of scales up to the next line
        ((10, 10), None, 448),  # 400
    ],
)
def test_bytes_of_a_matrix(shape: tuple[int, int], spec: QuantSpec | None, size: int) -> None:
    assert matrix_bytes(shape, spec) == size


def exported(
    source: Path, plan: Mapping[str, QuantSpec], out: Path, profile: ProfileName = "native"
) -> tuple[Manifest, int, int]:
    """The manifest, and bytes of the graph and of the data."""
    quantize_checkpoint(source, out / "q", RTN, plan=plan)
    manifest = export_onnx(out / "q", out / "onnx", profile=profile)
    data = sum((out / "onnx" / name).stat().st_size for name in {t.file for t in manifest.tensors.values()})
    return manifest, (out / "onnx" / manifest.graph).stat().st_size, data


def joined(folder: Path) -> set[str]:
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    return {i.name for i in graph.initializer if "+" in i.name and i.name.endswith("qweight")}


@pytest.mark.parametrize(
    ("kind", "plan", "joins"),
    [("opt", OPT, OPT_JOINED), slow(("llama", LLAMA, LLAMA_JOINED))],
    ids=["opt", "llama"],
)
def test_every_matrix_in_its_own_form(
    tmp_path: Path, kind: str, plan: Mapping[str, QuantSpec], joins: set[str]
) -> None:
    source = tiny_opt(tmp_path / "m") if kind == "opt" else tiny_llama(tmp_path / "m")
    manifest, graph, data = exported(source, plan, tmp_path)
    assert distance_from_transformers(tmp_path / "onnx", tmp_path / "q") <= tolerances.EXPORT_FP32
    stored = {n.removesuffix(".qweight"): t for n, t in manifest.tensors.items() if n.endswith(".qweight")}
    assert {n: (t.bits, t.scheme) for n, t in stored.items() if not t.shares} == {
        name: (spec.bits, spec.scheme) for name, spec in plan.items()
    }
    assert joined(tmp_path / "onnx") == joins
    bound = exported_size(empty_model(source), plan)
    assert 0 <= bound.data - data <= 64 * len(manifest.tensors)
    assert bound.graph >= graph
    planned = planned_size(source, plan)
    assert (planned.graph, planned.data) == (graph, data)


def test_the_embedded_model_is_known_to_one_percent(tmp_path: Path) -> None:
    model = empty_model(MINI)
    plan = plan_model(model, QuantOptions(method="rtn", table_bits=8, position_bits=8)) | OPT
    _, graph, data = exported(MINI, plan, tmp_path)
    bound = exported_size(model, plan)
    assert graph + data <= bound.total <= 1.01 * (graph + data)


def test_standard_operators_take_no_more(tmp_path: Path) -> None:
    source = tiny_llama(tmp_path / "m")
    _, _, data = exported(source, LLAMA, tmp_path, "portable")
    assert distance_from_transformers(tmp_path / "onnx", tmp_path / "q") <= tolerances.EXPORT_FP32
    assert data <= exported_size(empty_model(source), LLAMA).data


def test_parts_add_up_and_a_tied_head_counts_once(tmp_path: Path) -> None:
    model = empty_model(tiny_opt(tmp_path / "m"))
    shapes = matrix_shapes(model)
    assert "lm_head" not in shapes
    assert set(OPT) <= set(shapes)
    parts = sum(matrix_bytes(shape, OPT.get(name)) for name, shape in shapes.items())
    assert parts + fixed_bytes(model) == exported_size(model, OPT).total


def test_an_int8_cache_has_its_scales_in_the_graph(tmp_path: Path) -> None:
    model = empty_model(tiny_opt(tmp_path / "m"))
    more = fixed_bytes(model, cache_bits=8) - fixed_bytes(model)
    assert more >= 2 * 2 * 64 * 4  # keys and values of two layers, float32 [4 heads, 16]


SMALL = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
ARCHITECTURES = {  # cohere: norms of queries and keys of many operators each
    **rotary_configs(),
    **SPECIAL,
    "cohere": CohereConfig(**SMALL, use_qk_norm=True),
    "granite": GraniteConfig(**SMALL),
    "olmo2": Olmo2Config(**SMALL),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(ARCHITECTURES))
@pytest.mark.parametrize("form", ["as one", "mixed", "float"])
def test_no_architecture_exceeds_its_bounds(tmp_path: Path, kind: str, form: str) -> None:
    ARCHITECTURES[kind].save_pretrained(tmp_path)
    model = empty_model(tmp_path)
    plan = plan_model(model, QuantOptions(table_bits=8, position_bits=8))
    if form == "mixed":  # no two neighbours alike: nothing is joined
        plan = {name: QuantSpec(4 + 4 * (i % 2), (None, 16, 32)[i % 3]) for i, name in enumerate(plan)}
    elif form == "float":
        name, spec = plan.popitem()
        plan = {name: spec}
    planned, bound = planned_size(tmp_path, plan), exported_size(model, plan)
    assert planned.data <= bound.data <= planned.data + 64 * 100
    assert planned.graph <= bound.graph
