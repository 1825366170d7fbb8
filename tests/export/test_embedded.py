"""The embedded, trained model through the whole line: 200 greedy tokens, parity, and the bytes on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dareq_runtime
from dareq_edge.cli.evaluation import EMBEDDED_TEXT
from dareq_edge.hf import DareqConfig
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.reference import load_reference
from dareq_export import export_onnx
from dareq_runtime.parity import chain, compare
from fast import fast

MODEL = Path(__file__).parents[2] / "examples/models/opt-mini"
PROMPTS = ["The people of the United States", "= Robert Boulter =", "Once upon a time"]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(quantized checkpoint, exported folder)."""
    root = tmp_path_factory.mktemp("embedded")
    quantize_checkpoint(MODEL, root / "q", DareqConfig(bits=4, scale_dtype="bfloat16", table_bits=8))
    export_onnx(root / "q", root / "out")
    return root / "q", root / "out"


@pytest.mark.parametrize("prompt", fast(PROMPTS, PROMPTS[0]))
def test_200_greedy_tokens_equal_transformers(deployed: tuple[Path, Path], prompt: str) -> None:
    model = dareq_runtime.load(deployed[1], compute="fp32")
    ids = model.encode(prompt)
    assert ids[0] == 2  # OPT's leading </s>
    expected = load_reference(deployed[0]).greedy(ids, 200)
    found = model.generate(ids.tolist(), max_new_tokens=200, stop_ids=[]).ids
    assert list(found) == expected.tolist()


def test_parity_of_the_whole_chain_passes(deployed: tuple[Path, Path]) -> None:
    int8 = dareq_runtime.load(deployed[1])
    scorers, links = chain(
        original=load_reference(MODEL),
        quantized=load_reference(deployed[0]),
        fp32=dareq_runtime.load(deployed[1], compute="fp32"),
        int8=int8,
    )
    tokens = dareq_runtime.read_tokens(text=EMBEDDED_TEXT, tokenizer=int8.tokenizer)
    window = dareq_runtime.TokenSet((np.concatenate(tokens.sequences)[:1024],), "start of the addresses")
    report = compare(scorers, links, window, dareq_runtime.make_protocol("gptq"))
    assert report.passed, report.reasons
    assert 1 < report.scores[0].ppl < 200  # a trained model, not noise
