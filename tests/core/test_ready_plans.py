"""Plans that somebody else made: what is in the folder, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dareq_edge.errors import SpecError, UnsupportedArchitectureError
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.recipes import build
from dareq_edge.spec import QuantSpec
from tiny_models import tiny_opt

LAYER = "model.decoder.layers.0"
PLAN = {
    f"{LAYER}.fc1": QuantSpec(8, 32),  # order does not matter
    "model.decoder.embed_tokens": QuantSpec(8),
    f"{LAYER}.self_attn.q_proj": QuantSpec(4),
    f"{LAYER}.self_attn.k_proj": QuantSpec(3),
    f"{LAYER}.self_attn.v_proj": QuantSpec(4, 16, "bfloat16"),
    f"{LAYER}.fc2": QuantSpec(2),
}


@pytest.mark.parametrize("recipe", ["rtn", "mse", "dareq:weights"])
def test_the_folder_holds_the_plan_and_the_recipes_method(tmp_path: Path, recipe: str) -> None:
    name, _, tier = recipe.partition(":")
    made = build(name, {"tier": tier} if tier else {})
    out = tmp_path / "q"
    manifest = quantize_checkpoint(tiny_opt(tmp_path / "m"), out, QuantOptions(), made, plan=PLAN)
    written = json.loads((out / "config.json").read_text())["quantization_config"]["plan"]
    assert set(written) == set(PLAN)
    assert next(iter(written)) == "model.decoder.embed_tokens"  # the model's order
    for module, spec in PLAN.items():
        found, entry = written[module], manifest.tensors[f"{module}.weight"]
        assert (found["bits"], found["group_size"], found["scale_dtype"]) == (
            spec.bits,
            spec.group_size,
            spec.scale_dtype,
        )
        assert found["method"] == entry.method
        assert entry.method in (recipe, "mse")  # tables are always a quantizer's
        assert (entry.bits, entry.scheme) == (spec.bits, spec.scheme)
    assert manifest.tensors[f"{LAYER}.self_attn.out_proj.weight"].method is None


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ({f"{LAYER}.fc9": QuantSpec()}, r"names .*\.fc9, which is no linear layer or embedding of OPT.*; use names"),
        ({f"{LAYER}.final_layer_norm": QuantSpec()}, "final_layer_norm, which is no linear layer"),
        ({"lm_head": QuantSpec()}, "names lm_head, which is tied; name the token embedding"),
    ],
)
def test_names_that_hold_no_matrix_are_refused(tmp_path: Path, plan: dict[str, QuantSpec], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        quantize_checkpoint(tiny_opt(tmp_path / "m"), tmp_path / "q", QuantOptions(), plan=plan)
    assert not (tmp_path / "q").exists()


def test_forms_that_a_recipe_does_not_have_are_refused_by_name(tmp_path: Path) -> None:
    plan = {f"{LAYER}.fc1": QuantSpec(8), f"{LAYER}.fc2": QuantSpec(4)}
    with pytest.raises(SpecError, match=r"layers\.0\.fc2: entquant has .*, not 4 bits"):
        quantize_checkpoint(tiny_opt(tmp_path / "m"), tmp_path / "q", QuantOptions(), build("entquant"), plan=plan)


def test_an_empty_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitectureError, match="plan is empty"):
        quantize_checkpoint(tiny_opt(tmp_path / "m"), tmp_path / "q", QuantOptions(), plan={})
