"""dareq-edge analyze from end to end, on the embedded model and on mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dareq_edge.allocation.entropy import softmax_entropy, weighted_mean
from dareq_edge.allocation.facts import facts_of_config
from dareq_edge.allocation.rules import build
from dareq_edge.checkpoint import Checkpoint
from dareq_edge.cli import main
from tiny_models import tiny_opt

ROOT = Path(__file__).parents[1]
MINI = ROOT / "examples" / "models" / "opt-mini"


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["analyze", *(str(a) for a in arguments)])
    captured = capsys.readouterr()
    return code, captured.out, " ".join(captured.err.split())


def test_the_embedded_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "entropy.svg"
    code, out, _ = call(capsys, MINI, "--json", "--plot", plot)
    assert code == 0
    found = json.loads(out)
    facts = facts_of_config(MINI)
    checkpoint = Checkpoint.open(MINI)
    blocks = found["blocks"]
    assert [b["block"] for b in blocks] == list(range(6))
    for i, block in enumerate(blocks):
        tensors = [checkpoint.tensor(f"{m.name}.weight") for m in facts.of_block(i)]
        assert block["entropy"] == weighted_mean([softmax_entropy(t) for t in tensors], [t.numel() for t in tensors])
        assert block["parameters"] == sum(t.numel() for t in tensors) == 786432
    bits = build("ewq")(facts, [b["entropy"] for b in blocks])
    assert [b["decision"] for b in blocks] == ["raw" if b is None else str(b) for b in bits]
    assert found["bits_per_weight"] == sum(16 if b is None else b for b in bits) / 6
    assert (found["architecture"], found["rule"], found["epsilon"]) == ("opt", "ewq", 0.01)
    low, mean = found["thresholds"].values()
    assert low < mean
    drawn = plot.read_text()
    assert "<svg" in drawn


def test_the_table_shows_differences(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, MINI, "--rule", "ewq+low=2+epsilon=0")
    assert code == 0
    rows = [line.split() for line in out.splitlines() if line.strip()[:1].isdigit()]
    assert len(rows) == 6
    printed = [row[2] for row in rows]
    assert len(set(printed)) == 6
    assert {len(value.partition(".")[2]) for value in printed} == {12}
    assert {row[-1] for row in rows} <= {"raw", "8", "2"}
    for words in ("mean - 1 sigma:", "mean:", "rule ewq+low=2+epsilon=0, epsilon 0:", "bits per weight"):
        assert words in " ".join(out.split())


def test_a_rule_that_needs_no_weights_is_shown_beside_entropies(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, MINI, "--rule", "ends-high+count=1", "--json")
    assert code == 0
    found = json.loads(out)
    assert [b["decision"] for b in found["blocks"]] == ["8", "4", "4", "4", "4", "8"]
    assert found["blocks"][0]["entropy"] > 4.6
    assert found["thresholds"] == {}


def test_fast_reads_config_json_only_and_no_torch(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((MINI / "config.json").read_bytes())
    blocked = ["torch", "transformers", "safetensors", "onnx", "sklearn", "matplotlib"]
    code = (
        f"import sys\nfor name in {blocked}: sys.modules[name] = None\n"
        "from dareq_edge.cli import main\n"
        f"sys.exit(main(['analyze', {str(tmp_path)!r}, '--fast', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    bits = build("fastewq")(facts_of_config(MINI), None)
    assert [b["decision"] for b in found["blocks"]] == ["raw" if b is None else str(b) for b in bits]
    assert {b["entropy"] for b in found["blocks"]} == {None}
    assert found["rule"] == "fastewq"


def test_fast_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, MINI, "--fast", "--rule", "uniform+bits=3")
    assert code == 0
    assert "entropy" not in out
    assert "of 6 blocks 6 in 3 bits; 3.00 bits per weight" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--fast", "--rule", "ewq"), "rule ewq reads weights; leave out --fast"),
        (("--fast", "--plot", "x.png"), "--fast does not measure; drop one"),
        (("--plot", "x.jpg"), "name it .png or .svg"),
        (("--rule", "ewg"), "unknown rule 'ewg'; did you mean 'ewq'"),
        (("--rule", "ewq+x=1"), "rule 'ewq' has no setting 'x' (it has: decision, deviations"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str) -> None:
    code, out, errors = call(capsys, MINI, *arguments)
    assert code == 1
    assert words in errors
    assert out == ""


def test_models_that_cannot_be_analyzed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no folder" in call(capsys, tmp_path / "none")[2]
    assert "no folder" in call(capsys, tmp_path / "none", "--fast")[2]
    folder = tiny_opt(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    assert "the folder has no weights" in call(capsys, folder)[2]
    assert main(["quantize", str(MINI), "--out", str(tmp_path / "q"), "--recipe", "rtn"]) == 0
    assert "quantized already; entropies are those of float weights" in call(capsys, tmp_path / "q")[2]


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--help")[0] == 0
    main(["analyze", "--help"])
    out = capsys.readouterr().out
    assert "dareq-edge analyze ./my-opt --fast" in out
    for name in ("ewq", "fastewq", "ends-high", "uniform"):
        assert name in out
