"""pip install of the built wheel into an empty environment, without and with each extra, gives what it promises."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dareq_edge
from tiny_decoder import TinyDecoder
from wheels import ROOT, Environment, UnavailableError, build_wheel

pytestmark = pytest.mark.slow
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

GENERATE = """
import sys
import dareq_runtime
model = dareq_runtime.load(sys.argv[1], threads=1)
print(*model.generate([17, 8, 30], max_new_tokens=6, stop_ids=[]).ids)
heavy = {"torch", "transformers", "onnx", "safetensors"} & set(sys.modules)
assert not heavy, heavy
"""
FLOAT_MODEL = """
import torch
from transformers import LlamaConfig, AutoModelForCausalLM
torch.manual_seed(0)
config = LlamaConfig(vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                     max_position_embeddings=64, initializer_range=0.2)
AutoModelForCausalLM.from_config(config).save_pretrained("float")
"""
RELOAD = """
import dareq_edge.hf
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("quantized")
print(type(model.model.layers[0].mlp.up_proj).__name__)
"""
PLOT = """
from pathlib import Path
from typing import Any
from dareq_edge.cli.plot import draw
from dareq_edge.comparison.records import Comparison, Production, Row, Run, Score
from dareq_edge.comparison.variants import parse_variant
row = Row(parse_variant("rtn", group_size=None, bits=4), True,
          (Run(None, Production(1.0, 2, 1, 1000, 4.0), {"text": Score(10, 3.1, 0.1)}),))
draw(Comparison("m", None, 8, {"text": Score(10, 3.0, 0.1)}, 4000, 32.0, (row,), "here"), Path("plot.svg"))
"""
OPTIMUM = """
import sys
import torch
from optimum.onnxruntime import ORTModelForCausalLM
model = ORTModelForCausalLM.from_pretrained(sys.argv[1])
ids = torch.tensor([[17, 8, 30]])
print(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.shape[-1])
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return available(lambda: build_wheel(tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that an export wrote, as a device gets it."""
    return TinyDecoder().write(tmp_path_factory.mktemp("device") / "exported")


def available(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except UnavailableError as error:
        pytest.skip(f"pip cannot get what this needs ({error}); connect to a package index, or fill pip's cache")


def made(wheel: Path, place: Path, extra: str | None = None) -> Environment:
    return available(lambda: Environment.make(place, wheel, extra))


def test_every_extra_is_tried_here() -> None:
    tried = {"quantize", "export", "report", "data", "hf"}
    assert set(PROJECT["optional-dependencies"]) == tried | {"dev"}, "dev is what these tests themselves run in"


def test_base_runs_an_exported_folder(wheel: Path, folder: Path, tmp_path: Path) -> None:
    place = made(wheel, tmp_path)
    assert not {"torch", "transformers", "onnx", "safetensors"} & place.packages()
    assert "deploy" in place.command("--help")
    assert place.command("--version").split() == ["dareq-edge", dareq_edge.__version__]
    ids = place.run("-c", GENERATE, folder).split()
    assert len(ids) == 6
    assert place.command("run", folder, "--prompt-ids", "17,8,30", "--max-new-tokens", "6", "--json")
    refusal = place.command("quantize", "nowhere", "--out", "x", check=False)
    assert "Traceback" not in refusal
    assert 'pip install "dareq-edge[export]"' in " ".join(refusal.split())


def test_export_makes_a_folder_that_base_runs(wheel: Path, tmp_path: Path) -> None:
    """Also tries [quantize], which [export] contains."""
    place = made(wheel, tmp_path, "export")
    place.run("-c", FLOAT_MODEL)
    place.command("quantize", "float", "--out", "quantized", "--recipe", "rtn")
    assert place.run("-c", RELOAD).split()[-1] == "DAREQuantLinear"
    place.command("export", "quantized", "--out", "onnx")
    assert len(place.run("-c", GENERATE, "onnx").split()) == 6


def test_quantize_needs_no_onnx(wheel: Path, tmp_path: Path) -> None:
    place = made(wheel, tmp_path, "quantize")
    assert not {"onnx", "onnxscript", "matplotlib"} & place.packages()
    place.run("-c", FLOAT_MODEL)
    place.command("quantize", "float", "--out", "quantized", "--recipe", "rtn")
    assert place.run("-c", RELOAD).split()[-1] == "DAREQuantLinear"
    refusal = place.command("export", "quantized", "--out", "onnx", check=False)
    assert "Traceback" not in refusal
    assert "which is not installed; run:" in " ".join(refusal.split())


def test_report_draws(wheel: Path, tmp_path: Path) -> None:
    place = made(wheel, tmp_path, "report")
    assert "torch" not in place.packages()
    place.run("-c", PLOT)
    assert (tmp_path / "plot.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")


def test_data_names_what_it_cannot_reach(wheel: Path, folder: Path, tmp_path: Path) -> None:
    place = made(wheel, tmp_path, "data")
    assert "datasets" in place.packages()
    code = "import datasets; from dareq_runtime.hub import DATASETS; print(*DATASETS)"
    assert "wikitext-2-raw-v1" in place.run("-c", code)


def test_hf_opens_the_folder_in_optimum(wheel: Path, tmp_path: Path) -> None:
    place = made(wheel, tmp_path, "export,hf")
    place.run("-c", FLOAT_MODEL)
    place.command("deploy", "float", "--out", "onnx", "--recipe", "rtn", "--tokens", _tokens(tmp_path))
    assert place.run("-c", OPTIMUM, "onnx").split()[-1] == "96"


def _tokens(folder: Path) -> Path:
    import numpy as np

    np.save(folder / "t.npy", np.random.default_rng(0).integers(3, 96, 400))
    return folder / "t.npy"
