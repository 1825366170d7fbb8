"""The dareq-entropy recipe: meets the rate it is asked for in every tier and family, and resumes to the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.container import coded_bytes
from dareq_edge.errors import SpecError
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.quantized import read_plan, read_quantized
from dareq_edge.recipes import Recipe, build
from dareq_edge.recipes._tiers import Tier
from dareq_edge.reference import load_reference
from fast import fast
from interruptions import interrupted, same
from tiny_sources import make
from tolerances import BLOCK_BITS, EVEN_BITS, TARGET_BITS

MINI = Path(__file__).parents[2] / "examples/models/opt-mini"
TIERS = get_args(Tier)
FAMILIES = ("opt", "opt-post", "llama", "gpt2", "gemma3")


def recipe(tier: str = "self", **changes: object) -> Recipe:
    small = {"samples": 5, "sample_length": 24, "probe": 5, "probe_length": 24, "compute": "float32"}
    quick = {"self": {"tuning": 0, "row_feedback": 3}, "analytic": {"row_feedback": 3}, "weights": {"noise": 512}}
    return build("dareq-entropy", {"tier": tier, **small} | quick[tier] | changes)


def coded_rate(folder: Path, inside: str = "") -> float:
    """Coded bits per weight of the linear layers of a checkpoint whose names hold ``inside``."""
    checkpoint = Checkpoint.open(str(folder))
    tensors = json.loads((folder / "dareq.json").read_text())["tensors"]
    bits = weights = 0
    for module, spec in read_plan(checkpoint).items():
        n, k = tensors[f"{module}.weight"]["shape"]
        if spec.method.startswith("dareq-entropy") and inside in module:
            value = read_quantized(checkpoint, module, spec, k)
            bits += 8 * coded_bytes(value.codes, value.scales, 8)
            weights += n * k
    return bits / weights


RATES = [("self", 2.5), ("analytic", 5.0), ("weights", 3.0)]


@pytest.mark.parametrize(("tier", "target"), fast(RATES, *RATES[1:]))
def test_meets_the_rate_that_is_asked_for(tmp_path: Path, tier: str, target: float) -> None:
    made = recipe(tier, target_bits=target)
    quantize_checkpoint(MINI, tmp_path / "q", QuantOptions(scale_dtype="bfloat16"), made)
    assert coded_rate(tmp_path / "q") == pytest.approx(target, rel=TARGET_BITS)


def test_meets_the_rate_of_every_block(tmp_path: Path) -> None:
    rates = (3.0, 2.5, 4.0, 3.0, 2.5, 5.0)
    quantize_checkpoint(
        MINI, tmp_path / "q", QuantOptions(scale_dtype="bfloat16"), recipe("weights", rates=rates, trellis=False)
    )
    for i, rate in enumerate(rates):
        assert coded_rate(tmp_path / "q", f"layers.{i}.") == pytest.approx(rate, rel=BLOCK_BITS)
    with pytest.raises(SpecError, match="rates has 2 numbers for 6 blocks; give one per block"):
        quantize_checkpoint(MINI, tmp_path / "r", QuantOptions(), recipe("weights", rates=(3.0, 4.0)))


def test_even_gives_every_layer_the_same_rate(tmp_path: Path) -> None:
    source, spread = make(tmp_path / "m", "llama"), {}
    layers = [f"self_attn.{i}_proj" for i in "qkvo"] + [f"mlp.{i}_proj" for i in ("gate", "up", "down")]
    for even in (False, True):
        made = recipe("analytic", target_bits=3.5, even=even)
        quantize_checkpoint(source, tmp_path / f"{even}", QuantOptions(scale_dtype="bfloat16"), made)
        rates = [coded_rate(tmp_path / f"{even}", f"layers.{i}.{layer}") for i in range(2) for layer in layers]
        spread[even] = max(rates) - min(rates)
    assert spread[True] <= 2 * EVEN_BITS < spread[False]


@pytest.mark.parametrize("family", fast(FAMILIES, "opt-post", "gpt2", "gemma3"))
@pytest.mark.parametrize("tier", TIERS)
def test_every_family_ends_up_complete_and_readable(tmp_path: Path, family: str, tier: str) -> None:
    source = make(tmp_path / "m", family, torch.bfloat16)
    manifest = quantize_checkpoint(source, tmp_path / "q", QuantOptions(table_bits=8), recipe(tier))
    methods = {e.method for e in manifest.tensors.values() if e.method}
    assert methods == {f"dareq-entropy:{tier}", "entquant"}
    assert {e.bits for e in manifest.tensors.values() if e.method} == {8}
    assert torch.isfinite(load_reference(tmp_path / "q").model(torch.tensor([[3, 4, 5]])).logits).all()


@pytest.mark.parametrize(
    ("tier", "changes"), fast([("self", {"tuning": 2}), ("analytic", {})], ("self", {"tuning": 2}))
)
def test_goes_on_where_it_stopped_with_the_same_bits(tmp_path: Path, tier: str, changes: dict[str, object]) -> None:
    source, made = make(tmp_path / "m", "llama"), recipe(tier, **changes)
    calls = interrupted(10**9, source, tmp_path / "straight", made)
    stages = {stage for stage, _ in calls if stage != "writing"}
    assert {"surveying", "quantizing blocks"} <= stages
    for stage in sorted(stages):
        at = [i for i, (name, _) in enumerate(calls) if name == stage]
        out = tmp_path / stage.replace(" ", "-")
        interrupted(at[len(at) // 2], source, out, made)
        again = interrupted(10**9, source, out, made)
        assert same(out, tmp_path / "straight"), stage
        assert ("surveying" in {name for name, _ in again}) == (stage not in ("quantizing blocks", "tuning scales"))


def test_a_slope_replaces_the_rate(tmp_path: Path) -> None:
    source = make(tmp_path / "m", "llama")
    for name, slope in (("fine", 1e-7), ("coarse", 1e-4)):
        quantize_checkpoint(source, tmp_path / name, QuantOptions(), recipe(slope=slope))
    assert coded_rate(tmp_path / "coarse") < coded_rate(tmp_path / "fine")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_bits": 0}, "target_bits is 0"),
        ({"target_bits": 9}, "target_bits is 9; use a number from 0 to 8"),
        ({"slope": 0}, "slope is 0"),
        ({"rates": [3.0, 0]}, "rates is \\[3.0, 0\\]; use a list of positive numbers up to 8"),
        ({"rates": "3"}, "rates is '3'; use a list"),
        ({"rates": [3.0], "slope": 1e-6}, "rates and slope are both given"),
        ({"even": True, "slope": 1e-6}, "even and slope are both given"),
        ({"even": True, "row_feedback": 0}, "even needs row_feedback of 1 or more"),
        ({"even": 1}, "even is 1; use true or false"),
        ({"passes": 0}, "passes is 0; use a whole number, 1 or more"),
        ({"step": 0}, "step 0; both must be positive"),
        ({"tier": "weights", "row_feedback": 2}, "row_feedback needs text"),
        ({"power": 2}, "has no setting 'power'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build("dareq-entropy", settings)


@pytest.mark.parametrize("options", [QuantOptions(bits=3), QuantOptions(group_size=64)])
def test_codes_of_another_form_are_refused(tmp_path: Path, options: QuantOptions) -> None:
    with pytest.raises(SpecError, match=r"8-bit codes per channel.*dareq-entropy\+target_bits="):
        quantize_checkpoint(MINI, tmp_path / "q", options, recipe("weights"))
