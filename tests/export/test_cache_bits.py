"""An exported model with an 8-bit cache: through the runtime, against the same model with a float one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import LlamaConfig

import dareq_runtime
import tolerances
from dareq_edge.errors import ArtifactError
from dareq_edge.hf import DareqConfig
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from dareq_runtime.sampling import Sampling
from fast import fast
from tiny_models import save_random, tiny_opt

GROUPED = LlamaConfig(  # fewer heads of keys than of queries
    vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8,
    num_key_value_heads=4, max_position_embeddings=64, initializer_range=0.2, tie_word_embeddings=False,
)  # fmt: skip


@pytest.fixture(scope="module", params=fast(["opt", "llama"], "llama"))
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(float cache, 8-bit cache)."""
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "opt":
        tiny_opt(root / "m")
    else:
        save_random(GROUPED, root / "m")
    quantize_checkpoint(root / "m", root / "q", DareqConfig(table_bits=8, method="rtn"))
    export_onnx(root / "q", root / "float")
    export_onnx(root / "q", root / "int8", cache_ranges=dareq_runtime.cache_ranges)
    return root / "float", root / "int8"


def test_logits_differ_by_what_8_bits_cost(folders: tuple[Path, Path]) -> None:
    floating, rounded = (dareq_runtime.load(f, compute="fp32") for f in folders)
    assert (floating.cache_bits, rounded.cache_bits) == (32, 8)
    ids = np.random.default_rng(0).integers(4, 96, 40)
    a, b = (np.concatenate(list(m.chunk_logits(ids, 8))) for m in (floating, rounded))
    error = np.abs(a - b).max() / np.abs(a).max()
    assert 0 < error <= tolerances.CACHE_LOGITS


def test_rows_of_a_padded_batch_are_what_they_are_alone(folders: tuple[Path, Path]) -> None:
    model = dareq_runtime.load(folders[1], compute="fp32")
    prompts = [[5, 9, 33, 60], [7], [8, 12]]
    alone = [model.generate(p, max_new_tokens=12, stop_ids=[]).ids for p in prompts]
    together = model.generate_batch(prompts, max_new_tokens=12, sampling=Sampling(), stop_ids=[], together=True)
    assert [g.ids for g in together] == alone


def test_a_cache_of_8_bits_is_not_measured_again(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ArtifactError, match="8 bits wide already"):
        dareq_runtime.cache_ranges(folders[1])
