"""The dareq recipe: every family and tier, resumed to the same bits; each part does what it says and no more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dareq_edge.errors import SpecError
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.recipes import Recipe, build, recipe_json
from dareq_edge.recipes._tiers import Tier, preferred_compute, uniform_tokens
from dareq_edge.recipes.dareq import DareQ
from dareq_edge.reference import load_reference
from dareq_edge.rounding.codes import nearest
from dareq_edge.rounding.search import search_scales
from dareq_edge.spec import QuantSpec
from fast import fast
from interruptions import interrupted, same
from tiny_sources import FAMILIES, OPTS, make, open_source, stored
from tolerances import NOISE_ROWS, SAME_WEIGHTS

SHARED = Path(__file__).parents[2] / "../shared/data"
TIERS = get_args(Tier)
Shelf = Callable[[dict[str, object]], dict[str, torch.Tensor]]


def recipe(tier: str = "self", **changes: object) -> Recipe:
    small = {"samples": 5, "sample_length": 24, "probe": 5, "probe_length": 24, "compute": "float32"}
    quick = {"tuning": 0, "row_feedback": 0} if tier == "self" else {}
    return build("dareq", {"tier": tier, **small} | quick | changes)


CASES = [(family, "self") for family in [*OPTS, *FAMILIES]]
CASES += [(family, tier) for family in ("opt-post", "gpt2", "gemma3") for tier in ("analytic", "weights")]


OFTEN = [(family, "self") for family in ("opt", "opt-post", "llama-tied", "gpt2", "gemma3")]
OFTEN += [("gpt2", "analytic"), ("opt-post", "weights")]


@pytest.mark.parametrize(("family", "tier"), fast(CASES, *OFTEN))
def test_every_family_ends_up_complete_and_readable(tmp_path: Path, family: str, tier: str) -> None:
    source = make(tmp_path / "m", family, torch.bfloat16)
    options = QuantOptions(group_size=32, table_bits=8, scale_dtype="bfloat16")
    made = recipe(tier, **({"row_feedback": 3} if tier == "self" else {}))
    manifest = quantize_checkpoint(source, tmp_path / "q", options, made)
    methods = {name: e.method for name, e in manifest.tensors.items() if e.method}
    scales = [t for name, t in stored(tmp_path / "q").items() if name.endswith(".scales")]
    assert len(scales) == len(methods)
    assert all(torch.equal(s, s.bfloat16().float()) for s in scales)
    config = json.loads((tmp_path / "q/config.json").read_text())["quantization_config"]
    assert {f"{module}.weight": spec["method"] for module, spec in config["plan"].items()} == methods
    assert set(methods.values()) == {f"dareq:{tier}", "mse"}
    assert config["recipe"]["label"] == f"dareq:{tier}"
    assert torch.isfinite(load_reference(tmp_path / "q").model(torch.tensor([[3, 4, 5]])).logits).all()


@pytest.mark.parametrize(
    ("tier", "changes"),
    [
        ("self", {"tuning": 3}),
        ("self", {"tuning": 2, "correction": False}),
        ("self", {"row_feedback": 3}),
        ("analytic", {}),
    ],
)
def test_goes_on_where_it_stopped_with_the_same_bits(tmp_path: Path, tier: str, changes: dict[str, object]) -> None:
    source, made = make(tmp_path / "m", "llama"), recipe(tier, **changes)
    calls = interrupted(10**9, source, tmp_path / "straight", made)
    stages = {stage for stage, _ in calls if stage != "writing"}
    assert "quantizing blocks" in stages
    for stage in sorted(stages):
        at = [i for i, (name, _) in enumerate(calls) if name == stage]
        out = tmp_path / stage.replace(" ", "-")
        first = interrupted(at[len(at) // 2], source, out, made)
        again = interrupted(10**9, source, out, made)
        if stage == "quantizing blocks":
            assert again[0][0] != "writing text"
            assert next(c for c in again if c[0] == stage) == first[-1]
        assert same(out, tmp_path / "straight"), stage
        assert not out.with_name(f".{out.name}.resume").exists()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    model = load_reference(folder).model
    return {name: p.detach() for name, p in model.named_parameters() if ".layers." in name and p.ndim == 2}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """The weights that settings give on a small Llama, made once."""
    folder, made = tmp_path_factory.mktemp("shelf"), {}
    source = make(folder / "m", "llama")

    def get(settings: dict[str, object]) -> dict[str, torch.Tensor]:
        key = json.dumps(settings)
        if key not in made:
            quantize_checkpoint(source, folder / "q", QuantOptions(), recipe(**settings), overwrite=True)
            made[key] = weights(folder / "q")
        return made[key]

    return get


def in_first_block(names: set[str]) -> set[str]:
    return {name.split("layers.0.")[1] for name in names if "layers.0." in name}


EVERY = {f"self_attn.{x}_proj.weight" for x in "qkvo"} | {f"mlp.{x}_proj.weight" for x in ("gate", "up", "down")}
AFTER_FIRST = EVERY - {f"self_attn.{x}_proj.weight" for x in "qkv"}

BETWEEN_ROWS = EVERY - {"self_attn.k_proj.weight", "self_attn.v_proj.weight"}  # 32 rows or fewer are one strip


@pytest.mark.parametrize(
    ("changes", "base", "want"),
    [
        ({"attention_moments": False}, {}, AFTER_FIRST | {"self_attn.v_proj.weight"}),
        ({"attention_mix": 3.0}, {}, AFTER_FIRST | {"self_attn.v_proj.weight"}),
        ({"correction": False}, {}, AFTER_FIRST),  # the first inputs have no errors yet
        ({"correction_mix": 1.0}, {}, AFTER_FIRST),
        ({"correction_damping": 0.5}, {}, AFTER_FIRST),
        ({"scale_search": False}, {"refit": False}, EVERY),
        ({"power": 8}, {}, EVERY),
        ({"weighted": False}, {"refit": False}, EVERY),
        ({"conditional": False}, {"refit": False}, EVERY),
        ({"signed": False}, {}, EVERY),
        ({"entropy_weight": 0.7}, {}, EVERY),
        ({"feedback": False}, {"descent": 0}, EVERY),
        ({"descent": 0}, {}, EVERY),
        ({"refit": False}, {}, EVERY),
        ({"damping": 0.2}, {}, EVERY),
        ({"row_feedback": 3}, {"descent": 0}, BETWEEN_ROWS),
        ({"row_damping": 0.1}, {"row_feedback": 3, "descent": 0}, BETWEEN_ROWS),
        ({"seed": 1}, {}, EVERY),
        ({"temperatures": (2.0,)}, {}, EVERY),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_each_part_changes_what_it_should(
    shelf: Shelf, changes: dict[str, object], base: dict[str, object], want: set[str]
) -> None:
    one, two = shelf(base), shelf(base | changes)
    assert in_first_block({n for n in one if not torch.allclose(one[n], two[n], rtol=SAME_WEIGHTS)}) == want


def test_with_every_part_off_it_is_round_to_nearest(tmp_path: Path) -> None:
    source = make(tmp_path / "m", "llama")
    off = {"scale_search": False, "correction": False, "attention_moments": False, "feedback": False, "descent": 0}
    quantize_checkpoint(source, tmp_path / "off", QuantOptions(), recipe(**off))
    quantize_checkpoint(source, tmp_path / "rtn", QuantOptions(method="rtn"))
    assert same(tmp_path / "off", tmp_path / "rtn")


def test_tier_weights_is_a_search_and_nearest_codes(tmp_path: Path) -> None:
    """Of queries and keys, white noise leaves what the norm makes of it: here gain² is all that matters."""
    source, spec = make(tmp_path / "m", "llama"), QuantSpec(4, 32, "bfloat16")
    tensors = stored(source)
    gain = torch.linspace(0.1, 3, 64)[torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    tensors["model.layers.1.input_layernorm.weight"] = gain
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    options = QuantOptions(group_size=32, scale_dtype="bfloat16")
    quantize_checkpoint(source, tmp_path / "q", options, recipe("weights", noise=40000))
    found, name = weights(tmp_path / "q"), "model.layers.1.self_attn.q_proj.weight"
    scales = search_scales(tensors[name], gain.square(), spec, power=4)
    want = nearest(tensors[name], scales, spec) * scales.repeat_interleave(32, 1)
    same_rows = (found[name] == want).all(dim=1).float().mean()
    assert same_rows >= NOISE_ROWS
    unweighted = search_scales(tensors[name], None, spec, power=4)
    other = nearest(tensors[name], unweighted, spec) * unweighted.repeat_interleave(32, 1)
    assert (found[name] == other).all(dim=1).float().mean() < NOISE_ROWS / 2


def test_weights_without_inputs(tmp_path: Path) -> None:
    source = make(tmp_path / "m", "llama")
    tensors = stored(source)
    tensors["model.layers.0.input_layernorm.weight"][:9] = 0  # some dead inputs
    tensors["model.layers.1.post_attention_layernorm.weight"][:] = 0  # no input at all
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    for tier in TIERS:
        quantize_checkpoint(source, tmp_path / tier, QuantOptions(), recipe(tier))
        for name, found in weights(tmp_path / tier).items():
            assert torch.isfinite(found).all()
            if "layers.0.self_attn.q" in name:  # dead weights are kept, near what they were
                apart = (found - tensors[name])[:, :9].abs().amax(1)
                assert (apart <= tensors[name].abs().amax(1)).all()
                assert found[:, :9].any()


def test_a_model_without_bos(tmp_path: Path) -> None:
    source = make(tmp_path / "m", "llama")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"bos_token_id": None, "eos_token_id": None}))
    for tier in ("self", "analytic"):
        quantize_checkpoint(source, tmp_path / tier, QuantOptions(), recipe(tier))


def test_uniform_tokens(tmp_path: Path) -> None:
    source = open_source(make(tmp_path / "m", "opt"))
    ids = uniform_tokens(source, 50, 40)
    assert ids.shape == (50, 40)
    assert (ids[:, 0] == 2).all()
    counts = torch.bincount(ids[:, 1:].flatten(), minlength=96)
    assert len(counts) == 96
    assert counts.min() > 0
    assert torch.equal(ids, uniform_tokens(source, 50, 40))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tier": "all"}, "tier is 'all'; use one of self, analytic, weights"),
        ({"tier": "weights", "correction": True}, "correction needs text, and tier weights has none"),
        ({"tier": "weights", "tuning": 5}, "tuning needs text"),
        ({"tier": "weights", "row_feedback": 5}, "row_feedback needs text"),
        ({"noise": 0}, "noise is 0"),
        ({"row_feedback": -1}, "row_feedback is -1"),
        ({"power": 3}, "power is 3; use one of 2, 4, 8"),
        ({"descent": -1}, "descent is -1"),
        ({"entropy_weight": -0.1}, "entropy_weight is -0.1; use a number 0 or more"),
        ({"entropy_weight": float("inf")}, "entropy_weight is inf"),
        ({"correction_mix": 2}, "correction_mix is 2; use a number from 0 to 1"),
        ({"feedback": 1}, "feedback is 1; use true or false"),
        ({"samples": True}, "samples is True; use a whole number"),
        ({"temperatures": ()}, r"temperatures is \(\)"),
        ({"temperatures": [1, 0]}, "one or more positive numbers"),
        ({"compute": "half"}, "compute is 'half'; use one of auto, float32, bfloat16"),
        ({"calibration": "x.txt"}, "recipe 'dareq' has no setting 'calibration'"),
    ],
)
def test_values_that_cannot_work(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build("dareq", settings)


def test_what_is_written_down() -> None:
    for tier, random in zip(TIERS, (True, False, False), strict=True):
        made = build("dareq", {"tier": tier})
        assert isinstance(made, DareQ)
        assert made.random == random
        said = recipe_json(made)
        assert said["label"] == f"dareq:{tier}"
        assert said["compute"] == preferred_compute()
        assert None not in said.values()
    assert (said["power"], said["feedback"]) == (4, False)
    assert recipe_json(build("gptq", {"calibration": "/data/someone/text.txt"}))["calibration"] == "text.txt"


def loss(model: torch.nn.Module, ids: torch.Tensor) -> float:
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits[:, :-1]
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))


@pytest.mark.parametrize("bits", fast([3, 4], 3))
@pytest.mark.parametrize("tier", TIERS)
def test_no_worse_than_nearest_on_a_trained_model(tmp_path: Path, tier: str, bits: int) -> None:
    folder = SHARED / "stories260k"
    if not folder.is_dir():
        pytest.skip("the shared data folder with stories260k is not beside the checkout")
    ids = torch.from_numpy(np.load(folder / "eval_tokens.npy").reshape(-1)[: 24 * 256].astype(np.int64))
    options, few = QuantOptions(bits=bits, scale_dtype="bfloat16"), {"samples": 16, "sample_length": 256}
    found = {}
    for name, made in (("rtn", build("rtn")), (tier, build("dareq", {"tier": tier} | few))):
        quantize_checkpoint(folder, tmp_path / name, options, made)
        found[name] = loss(load_reference(tmp_path / name).model, ids.reshape(24, 256))
    assert found[tier] < found["rtn"]
