"""Every kind of artefact that export writes passes the same kit; a new kind is a line in KINDS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig

import dareq_runtime
import tolerances
from dareq_edge.cli.mobile import package
from dareq_edge.hf import DareqConfig
from dareq_edge.packed import pack_folder
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from dareq_runtime.kit.judging import judge
from dareq_runtime.kit.result import read_result
from fast import fast
from kits import bundle, perturb, random_tokens, run_validate
from tiny_models import save_random, tiny_opt


def _exported(**options: Any) -> Callable[[Path, Path], object]:
    return lambda checkpoint, out: export_onnx(checkpoint, out, **options)


def _converted(checkpoint: Path, out: Path) -> object:
    export_onnx(checkpoint, out.with_name("before"))
    return package(out.with_name("before"), out)


def _packed(checkpoint: Path, out: Path) -> object:
    export_onnx(checkpoint, out.with_name("before"))
    return pack_folder(out.with_name("before"), out)


KINDS: dict[str, Callable[[Path, Path], object]] = {
    "native": _exported(),
    "8-bit cache": _exported(cache_ranges=dareq_runtime.cache_ranges),
    "portable": _exported(profile="portable"),
    "web": _exported(profile="web"),
    "mobile": _converted,
    "packed": _packed,
}
GROUPED = LlamaConfig(  # fewer heads of keys than of queries, rotary positions, no position table
    vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8,
    num_key_value_heads=4, max_position_embeddings=64, initializer_range=0.2, tie_word_embeddings=False,
)  # fmt: skip


@pytest.fixture(scope="module", params=fast(["opt", "llama"], "llama"))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "opt":
        tiny_opt(root / "m", max_position_embeddings=64)
    else:
        save_random(GROUPED, root / "m")
    quantize_checkpoint(root / "m", root / "q", DareqConfig(table_bits=8, method="rtn"))
    return root / "q"


@pytest.mark.parametrize("kind", fast(KINDS, "web", "packed"))
def test_every_kind_passes_the_same_kit(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    KINDS[kind](checkpoint, tmp_path / "onnx")
    bundle(tmp_path / "onnx", tmp_path / "kit", random_tokens(200))
    record = json.loads((tmp_path / "kit/kit.json").read_text())
    assert record["sessions"] == json.loads((tmp_path / "onnx/dareq.json").read_text())["sessions"]
    done = run_validate(tmp_path / "kit", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = judge(read_result(tmp_path / "result.json"), tmp_path / "kit")
    assert found.disagreements == ()
    assert [link.passed for link in found.parity.links] == [True, True]
    assert max(abs(link.delta_ppl) for link in found.parity.links) < tolerances.KIT
    perturb(tmp_path / "kit", "fp32", 0.01)
    assert run_validate(tmp_path / "kit", tmp_path).returncode == 1
