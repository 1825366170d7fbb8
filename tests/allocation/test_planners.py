"""--max-size: what is written fits, better forms are bought with what there is, and what cannot be is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dareq_edge.allocation.entropy import block_entropies
from dareq_edge.allocation.facts import facts_of_config
from dareq_edge.allocation.planners import ByRule, WithinBytes
from dareq_edge.allocation.rules import build as build_rule
from dareq_edge.allocation.rules import parse
from dareq_edge.allocation.sizes import parameter_count
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.cli import main
from dareq_edge.errors import AllocationError
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.recipes import build
from dareq_export import export_onnx
from fast import fast
from tiny_models import tiny_llama, tiny_opt

OPTIONS = QuantOptions(table_bits=8, position_bits=8, scale_dtype="bfloat16")
QUICK = {"samples": 2, "sample_length": 24}


def exported(tmp_path: Path, source: Path, max_bytes: int) -> tuple[int, dict[str, dict[str, object]]]:
    """Bytes of graph and data, and the plan, of a model quantized within a size."""
    out = tmp_path / f"q{max_bytes}"
    quantize_checkpoint(source, out, OPTIONS, build("rtn"), plan=WithinBytes(max_bytes, **QUICK))
    folder = tmp_path / f"o{max_bytes}"
    export_onnx(out, folder)
    size = sum((folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    return size, json.loads((out / "config.json").read_text())["quantization_config"]["plan"]


@pytest.mark.parametrize("family", fast([tiny_opt, tiny_llama], tiny_opt))
def test_more_bytes_buy_better_forms_and_are_never_exceeded(tmp_path: Path, family: object) -> None:
    source = family(tmp_path / "m")  # type: ignore[operator]
    with pytest.raises(AllocationError, match="smallest possible is") as refused:
        quantize_checkpoint(source, tmp_path / "q", OPTIONS, build("rtn"), plan=WithinBytes(1000, **QUICK))
    assert not (tmp_path / "q").exists()
    smallest = int(str(refused.value).rsplit("(", 1)[1].split(" ")[0].replace(",", ""))
    spent = []
    for budget in (smallest, 2 * smallest):
        size, plan = exported(tmp_path, source, budget)
        assert size <= budget
        spent.append(sum(8 if spec["bits"] == 8 else 4 for spec in plan.values()) / max(len(plan), 1))
    assert spent == sorted(spent)
    assert spent[0] < spent[1]


def test_what_was_measured_stays_for_the_next_call(tmp_path: Path) -> None:
    source, work = tiny_opt(tmp_path / "m"), tmp_path / "work"
    stages: list[list[str]] = []
    for out in ("a", "b"):
        seen: list[str] = []
        quantize_checkpoint(
            source,
            tmp_path / out,
            OPTIONS,
            build("rtn"),
            plan=WithinBytes(100_000, **QUICK),
            work=work,
            progress=lambda stage, _, __, seen=seen: seen.append(stage),
        )
        stages.append(seen)
    assert {"writing text", "measuring sensitivity", "measuring tables"} <= set(stages[0])
    assert not {"writing text", "measuring sensitivity", "measuring tables"} & set(stages[1])


def test_a_rule_decides_the_bits_of_blocks(tmp_path: Path) -> None:
    source = tiny_opt(tmp_path / "m")
    found = {}
    for written in ("uniform+bits=3", "ends-high+count=1+high=8+low=4", "ends-high+count=1+high=null+low=4", "ewq"):
        out = tmp_path / written
        quantize_checkpoint(source, out, OPTIONS, build("rtn"), plan=ByRule(parse(written)))
        plan = json.loads((out / "config.json").read_text())["quantization_config"]["plan"]
        assert plan["model.decoder.embed_tokens"]["bits"] == 8
        found[written] = [plan.get(f"model.decoder.layers.{i}.fc1", {}).get("bits") for i in range(2)]
    assert found["uniform+bits=3"] == [3, 3]
    assert found["ends-high+count=1+high=8+low=4"] == [8, 8]
    assert found["ends-high+count=1+high=null+low=4"] == [None, None]
    entropies = block_entropies(Checkpoint.open(str(source)), facts_of_config(source))
    assert found["ewq"] == list(build_rule("ewq")(facts_of_config(source), entropies))


def test_the_command_line_takes_a_rule_and_bits_per_weight(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tiny_opt(tmp_path / "m")
    quick = ("--recipe", "rtn", "--table-bits", "8")
    base = ["quantize", str(source), "--out", str(tmp_path / "q"), *quick]
    assert main([*base, "--rule", "uniform+bits=5"]) == 0
    plan = json.loads((tmp_path / "q/config.json").read_text())["quantization_config"]["plan"]
    assert plan["model.decoder.layers.0.fc1"]["bits"] == 5
    capsys.readouterr()
    assert main([*base, "--rule", "uniform", "--bits", "3", "--overwrite"]) != 0
    assert "--rule decides --bits; give one of the two" in capsys.readouterr().err
    assert main([*base, "--rule", "unifrom", "--overwrite"]) != 0
    assert "did you mean 'uniform'" in capsys.readouterr().err
    assert main([*base, "--max-size", "40bpw", "--overwrite"]) != 0
    assert "bits per weight are more than 0 and at most 32" in capsys.readouterr().err
    assert main([*base, "--max-size", "1bpw", "--overwrite"]) != 0
    words = capsys.readouterr().err
    parameters = parameter_count(Checkpoint.open(str(source)).empty_model())
    assert f"({parameters // 8:,} bytes)" in words
    assert "smallest possible is" in words


def test_the_command_line_takes_a_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tiny_opt(tmp_path / "m")
    quick = ("--recipe", "rtn", "--table-bits", "8")
    assert main(["quantize", str(source), "--out", str(tmp_path / "q"), "--max-size", "200kB", *quick]) == 0
    capsys.readouterr()
    assert main(["quantize", str(source), "--out", str(tmp_path / "r"), "--max-size", "1kB", *quick]) != 0
    assert "smallest possible is" in capsys.readouterr().err
    both = ["quantize", str(source), "--out", str(tmp_path / "r"), "--max-size", "1MB", "--bits", "3", *quick]
    assert main(both) != 0
    assert "--max-size decides --bits" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_sensitivity_is_what_the_definition_says() -> None:
    from dareq_edge.allocation.sensitivity import layer_cost
    from dareq_edge.rounding.search import search_scales
    from dareq_edge.spec import QuantSpec

    generator = torch.Generator().manual_seed(3)
    weight, g, d = (torch.rand(*shape, generator=generator) + 0.1 for shape in ((6, 32), (6,), (32,)))
    spec = QuantSpec(4)
    s = search_scales(weight, d, spec).double()
    total = 0.0
    for i in range(6):
        for j in range(32):
            w = float(weight[i, j])
            q = min(max(round(w / float(s[i, 0])), -8), 7)
            total += 0.5 * float(g[i]) * float(d[j]) * (w - q * float(s[i, 0])) ** 2
    assert layer_cost(weight, g, d, spec, "w") == pytest.approx(total, rel=1e-4)
