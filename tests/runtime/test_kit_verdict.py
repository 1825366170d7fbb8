"""The host judges a result again from its losses: whatever the device concludes, or claims to have concluded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tolerances
from dareq_edge.errors import ArtifactError, ParityError
from dareq_runtime.kit.judging import KitVerdict, judge
from dareq_runtime.kit.result import read_result
from dareq_runtime.tokens import TokenSet
from dareq_runtime.verdict import FP32_COMPUTE, INT8_CACHE, INT8_COMPUTE
from kits import bundle, perturb, random_tokens, reseal, run_validate

LINES = TokenSet(tuple(random_tokens(n, seed=n).sequences[0] for n in (5, 30, 17, 40)), "lines", "lines")


@pytest.fixture(scope="module", params=["gptq", "lines"])
def place(request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a kit, the same as a zip, and a device's result."""
    root = tmp_path_factory.mktemp("verdict")
    tokens = random_tokens(300) if request.param == "gptq" else LINES
    bundle(tiny_folder, root / "kit", tokens, request.param)
    bundle(tiny_folder, root / "kit.zip", tokens, request.param)
    perturb(root / "kit", "int8", 0.001)  # so that differences are not zero
    assert run_validate(root / "kit", root).returncode == 0
    return root


def rejudged(
    place: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], kit: Path | None = None
) -> KitVerdict:
    data = json.loads((place / "result.json").read_text())
    change(data)
    (tmp_path / "changed.json").write_text(json.dumps(data))
    return judge(read_result(tmp_path / "changed.json"), kit)


@pytest.mark.parametrize("proven", [False, True])
def test_an_honest_result_is_confirmed(place: Path, proven: bool) -> None:
    result = read_result(place / "result.json")
    found = judge(result, place / "kit" if proven else None)
    assert found.parity.passed
    assert found.disagreements == ()
    assert found.kit_proven is proven
    link = found.parity.links[0]
    assert str(link) == "host int8 compute -> device int8 compute"
    assert link.delta_ppl == pytest.approx(np.expm1(0.001), abs=tolerances.KIT)
    assert [k.tolerance for k in found.parity.links] == [INT8_COMPUTE.name, FP32_COMPUTE.name]
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["passed"] is True


def test_worse_losses_fail_whatever_the_summary_says(place: Path, tmp_path: Path) -> None:
    def worse(data: dict[str, Any]) -> None:
        data["computes"]["int8"]["nll"] = [x + 0.05 for x in data["computes"]["int8"]["nll"]]

    found = rejudged(place, tmp_path, worse, place / "kit")
    assert not found.parity.passed
    assert found.parity.broken == "host int8 compute -> device int8 compute"
    assert "int8 compute: perplexity differs by +5." in found.parity.reasons[0]
    said = " ".join(found.disagreements)
    assert "int8 compute: it says passed True, its losses give False" in said
    assert "it says passed True, its losses give False" in found.disagreements[-1]
    assert "ppl" in said
    with pytest.raises(ParityError, match="int8 compute: perplexity differs"):
        found.parity.require()


@pytest.mark.parametrize("compute", ["int8", "fp32", None])
def test_a_flipped_verdict_changes_nothing(place: Path, tmp_path: Path, compute: str | None) -> None:
    def flip(data: dict[str, Any]) -> None:
        record = data if compute is None else data["computes"][compute]
        record["passed"] = not record["passed"]

    found = rejudged(place, tmp_path, flip)
    assert found.parity.passed
    who = f"{compute} compute: " if compute else ""
    assert found.disagreements == (f"{who}it says passed False, its losses give True",)


CLAIMS = ["tokens", "ppl", "stderr", "reference_ppl", "delta_ppl", "delta_stderr", "allowed"]


@given(name=st.sampled_from(CLAIMS), value=st.one_of(st.none(), st.text(), st.booleans(), st.floats(-1e3, 1e3)))
@settings(max_examples=40, deadline=None)
def test_any_other_claim_is_found(tiny_folder: Path, tmp_path_factory: Any, name: str, value: object) -> None:
    del tiny_folder
    root = tmp_path_factory.mktemp("claims")
    result = {"format": 1, "kind": "result", "kit": "0", "model": {}, "counts": [3, 3], "protocol": "gptq(window=4)"}
    losses = [1.0, 2.0, 3.0, 1.5, 2.5, 3.5]
    compute = {"nll": losses, "reference_nll": losses}
    result |= {"weighting": "token", "device": {}, "passed": True, "computes": {"fp32": compute}}
    (root / "r.json").write_text(json.dumps(result))
    missing = judge(read_result(root / "r.json")).disagreements
    assert [text.split()[4] for text in missing] == [*CLAIMS, "passed"]
    compute[name] = value  # type: ignore[assignment]
    (root / "r.json").write_text(json.dumps(result))
    found = judge(read_result(root / "r.json"))
    assert found.parity.passed
    expected = {"tokens": 6, "ppl": np.exp(2.25), "reference_ppl": np.exp(2.25), "delta_ppl": 0, "delta_stderr": 0}
    right = isinstance(value, float) and value == pytest.approx(expected.get(name, np.nan), abs=1e-9)
    assert (f"it says {name} " in " ".join(found.disagreements)) is not right


def test_a_friendlier_reference_is_seen_through(place: Path, tmp_path: Path) -> None:
    def friendly(data: dict[str, Any]) -> None:
        found = data["computes"]["int8"]
        found["nll"] = found["reference_nll"] = [x + 0.05 for x in found["nll"]]

    assert rejudged(place, tmp_path, friendly).parity.passed, "without the kit, its own account is believed"
    found = rejudged(place, tmp_path, friendly, place / "kit")
    assert not found.parity.passed
    assert "int8 compute: its reference is not the kit's" in found.disagreements


def test_a_friendlier_tolerance_is_seen_through(place: Path, tmp_path: Path) -> None:
    def friendly(data: dict[str, Any]) -> None:
        data["model"]["cache_bits"] = 8
        data["computes"]["fp32"]["nll"] = [x + 1e-3 for x in data["computes"]["fp32"]["nll"]]

    found = rejudged(place, tmp_path, friendly)
    assert found.parity.passed
    assert found.parity.links[1].tolerance == INT8_CACHE.name
    found = rejudged(place, tmp_path, friendly, place / "kit")
    assert not found.parity.passed
    assert "its account of the model and protocol is not the kit's" in found.disagreements


def test_the_result_of_another_kit(place: Path) -> None:
    with pytest.raises(ArtifactError, match="give the right one"):
        judge(read_result(place / "result.json"), place / "kit.zip")  # not perturbed


def test_a_zip_proves_as_its_folder_does(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("kit", "kit.zip"):
        bundle(tiny_folder, tmp_path / name, random_tokens(100), window=40)
    assert run_validate(tmp_path / "kit", tmp_path, "--tokens", 39).returncode == 0
    found = judge(read_result(tmp_path / "result.json"), tmp_path / "kit.zip")
    assert found.kit_proven
    assert found.parity.passed
    assert found.disagreements == ()
    assert [score.tokens for score in found.parity.scores] == [39] * 4


@pytest.mark.parametrize("name", ["kit.json", "kit.sha256", "reference/int8.nll.npy", "reference/fp32.nll.npy"])
def test_a_damaged_kit_proves_nothing(place: Path, tmp_path: Path, name: str) -> None:
    kit = Path(shutil.copytree(place / "kit", tmp_path / "kit"))
    content = bytearray((kit / name).read_bytes())
    content[-20] ^= 1
    (kit / name).write_bytes(content)
    with pytest.raises(ArtifactError, match="bundle it again"):
        judge(read_result(place / "result.json"), kit)
    (kit / name).unlink()
    with pytest.raises(ArtifactError, match="bundle it again"):
        judge(read_result(place / "result.json"), kit)


def test_what_is_no_kit(place: Path, tmp_path: Path) -> None:
    result = read_result(place / "result.json")
    (tmp_path / "text").write_text("no zip")
    for path, said in ((tmp_path / "text", "neither"), (tmp_path / "none", "there is no kit")):
        with pytest.raises(ArtifactError, match=said):
            judge(result, path)
    kit = Path(shutil.copytree(place / "kit", tmp_path / "kit"))
    reseal(kit, lambda record: record.update(windows=record["windows"][1:]))
    data = json.loads((place / "result.json").read_text())
    data["kit"] = (kit / "kit.sha256").read_text().split()[0]
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(ArtifactError, match=r"windows are not those of|format"):
        judge(read_result(tmp_path / "r.json"), kit)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(kind="kit"), "is no result"),
        (lambda d: d.update(format=2), "has format 2"),
        (lambda d: d.pop("counts"), "lacks or mistypes 'counts'"),
        (lambda d: d.update(counts=[]), "lacks or mistypes"),
        (lambda d: d.update(counts=[-1, 10]), "counts"),
        (lambda d: d.update(counts="many"), "lacks or mistypes"),
        (lambda d: d.update(weighting="none"), "weighting 'none'"),
        (lambda d: d.update(computes={}), "lacks or mistypes"),
        (lambda d: d.update(computes={"int4": d["computes"]["int8"]}), "compute 'int4'"),
        (lambda d: d["computes"]["int8"]["nll"].pop(), "numbers for"),
        (lambda d: d["computes"]["int8"].update(nll="x"), "lacks or mistypes"),
        (lambda d: d["computes"]["fp32"].pop("reference_nll"), "reference_nll"),
        (lambda d: d.update(computes=[1]), "lacks or mistypes"),
    ],
)
def test_what_is_no_result(place: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        rejudged(place, tmp_path, change)


def test_losses_that_are_not_finite(place: Path, tmp_path: Path) -> None:
    def none(data: dict[str, Any]) -> None:
        data["computes"]["int8"]["nll"][3] = None

    with pytest.raises(ParityError, match="device int8 compute gives losses that are not finite"):
        rejudged(place, tmp_path, none)
