"""The same folder in optimum, onnxruntime-genai, transformers and our runtime: the same greedy tokens."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from client_cases import NEW, TEXTS, Exported
from dareq_runtime import load
from examples.clients import genai_client, optimum_client

EXAMPLES = Path(__file__).parents[2] / "examples/clients"


def test_transformers_on_the_dequantized_model(exported: Exported) -> None:
    model = AutoModelForCausalLM.from_pretrained(exported.checkpoint, dtype=torch.float32).eval()
    for prompt, expected in zip(exported.prompts, exported.expected, strict=True):
        out = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False, eos_token_id=None)
        assert out[0, len(prompt) :].tolist() == expected


def test_optimum_one_by_one_and_left_padded(exported: Exported) -> None:
    model = optimum_client.open_model(exported.folder, "fp32")
    assert [optimum_client.greedy(model, p, NEW) for p in exported.prompts] == exported.expected
    width = max(map(len, exported.prompts))
    ids = torch.tensor([[1] * (width - len(p)) + p for p in exported.prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in exported.prompts])
    out = model.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, eos_token_id=None)
    assert out[:, width:].tolist() == exported.expected


def until_stop(row: list[int], stops: frozenset[int]) -> list[int]:
    """What genai makes of a row: it always stops at the model's end-of-text."""
    found = [i for i, token in enumerate(row) if token in stops]
    return row[: found[0] + 1] if found else row


@pytest.mark.parametrize("share", [True, False])
def test_onnxruntime_genai(exported: Exported, tmp_path: Path, share: bool) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "genai")
    config = json.loads((folder / "genai_config.json").read_text())
    assert config["search"]["past_present_share_buffer"] is True
    config["search"]["past_present_share_buffer"] = share
    (folder / "genai_config.json").write_text(json.dumps(config))
    model = genai_client.open_model(folder, "fp32")
    found = [list(genai_client.stream(model, p, NEW)) for p in exported.prompts]
    assert found == [until_stop(row, exported.stops) for row in exported.expected]


@pytest.mark.parametrize("exported", ["opt-mini"], indirect=True)
def test_text_in_text_out(exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    ours = load(exported.folder, compute="fp32")
    optimum = optimum_client.open_model(exported.folder, "fp32")
    genai = genai_client.open_model(exported.folder, "fp32")
    prompt = TEXTS[0]
    expected = ours.generate(prompt, max_new_tokens=NEW).text
    assert "".join(genai_client.write(genai, prompt, NEW)) == expected
    capsys.readouterr()
    assert optimum_client.write(optimum, exported.folder, prompt, NEW, show=True) == prompt + expected
    assert capsys.readouterr().out == prompt + expected + "\n"


@pytest.mark.parametrize(("example", "package"), [("genai", "onnxruntime_genai"), ("optimum", "optimum.onnxruntime")])
def test_an_example_without_its_package_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, example: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=r"pip install"):
        runpy.run_path(str(EXAMPLES / f"{example}_client.py"), run_name="__main__")


@pytest.mark.parametrize(
    "name", ["genai_client.py", "optimum_client.py", "node/transformers_js.mjs", "node/onnxruntime_node.mjs"]
)
def test_examples_are_short(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 60
