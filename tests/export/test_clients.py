"""The same folder in optimum, onnxruntime-genai, transformers and our runtime: the same greedy tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from dareq_edge.hf import DareqConfig
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from dareq_runtime import load
from tiny_models import tiny_opt

PROMPTS = [[2, 17, 40, 8, 33], [2, 51], [2, 9, 70, 71, 12, 30, 64, 5, 90]]
NEW = 24


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(quantized checkpoint, exported folder) of a tiny OPT that never stops by itself."""
    root = tmp_path_factory.mktemp("clients")
    tiny_opt(root / "m", eos_token_id=95)
    quantize_checkpoint(root / "m", root / "q", DareqConfig(bits=4, table_bits=8))
    export_onnx(root / "q", root / "out")
    return root / "q", root / "out"


@pytest.fixture(scope="module")
def ours(exported: tuple[Path, Path]) -> list[list[int]]:
    """Greedy continuations by our runtime, fp32 compute, one prompt at a time."""
    model = load(exported[1], compute="fp32")
    return [list(model.generate(p, max_new_tokens=NEW, stop_ids=[]).ids) for p in PROMPTS]


def test_transformers_on_the_dequantized_model(exported: tuple[Path, Path], ours: list[list[int]]) -> None:
    model = AutoModelForCausalLM.from_pretrained(exported[0], dtype=torch.float32).eval()
    for prompt, expected in zip(PROMPTS, ours, strict=True):
        out = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False, eos_token_id=None)
        assert out[0, len(prompt) :].tolist() == expected


def test_optimum_one_by_one_and_left_padded(exported: tuple[Path, Path], ours: list[list[int]]) -> None:
    optimum = pytest.importorskip("optimum.onnxruntime", reason="the [hf] extra is not installed")
    model = optimum.ORTModelForCausalLM.from_pretrained(exported[1], session_options=_fp32_compute())
    settings = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": None}
    for prompt, expected in zip(PROMPTS, ours, strict=True):
        out = model.generate(torch.tensor([prompt]), **settings)
        assert out[0, len(prompt) :].tolist() == expected
    width = max(map(len, PROMPTS))
    ids = torch.tensor([[1] * (width - len(p)) + p for p in PROMPTS])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in PROMPTS])
    out = model.generate(ids, attention_mask=mask, **settings)
    assert out[:, width:].tolist() == ours


def _fp32_compute() -> object:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "1")
    return options


@pytest.mark.parametrize("share", [True, False])
def test_onnxruntime_genai(exported: tuple[Path, Path], tmp_path: Path, ours: list[list[int]], share: bool) -> None:
    genai = pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
    folder = _with_fp32_compute(exported[1], tmp_path / "genai")
    model = genai.Model(str(folder))
    for prompt, expected in zip(PROMPTS, ours, strict=True):
        params = genai.GeneratorParams(model)
        length = len(prompt) + NEW
        params.set_search_options(max_length=length, do_sample=False, past_present_share_buffer=share)
        generator = genai.Generator(model, params)
        generator.append_tokens(np.array(prompt, dtype=np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        found = [int(t) for t in generator.get_sequence(0)][len(prompt) :]
        stop = expected.index(95) + 1 if 95 in expected else NEW  # genai always stops at the config's eos
        assert found == expected[:stop]


def _with_fp32_compute(folder: Path, out: Path) -> Path:
    """A copy whose genai_config.json asks onnxruntime for fp32 compute, so that tokens can be compared exactly."""
    out.mkdir()
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    config = json.loads((out / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"]["session.disable_prepacking"] = "1"
    (out / "genai_config.json").write_text(json.dumps(config))
    return out
