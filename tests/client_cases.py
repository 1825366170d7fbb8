"""Folders that every client opens, and our own greedy tokens of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dareq_edge.hf import DareqConfig
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from dareq_runtime import load
from tiny_models import tiny_llama, tiny_opt

NEW = 64
TEXTS = ["The people of the United States", "He said that", "A"]
MODELS = ["opt", "opt post-LN", "llama", "opt-mini"]
_OPT_MINI = Path(__file__).parents[1] / "examples/models/opt-mini"
_TINY_PROMPTS = [[2, 17, 40, 8, 33], [2, 51], [2, 9, 70, 71, 12, 30, 64, 5, 90]]


@dataclass(frozen=True, slots=True)
class Exported:
    """A folder, the checkpoint it was made of, prompts, and what our runtime continues them with in fp32 compute."""

    folder: Path
    checkpoint: Path
    prompts: list[list[int]]
    expected: list[list[int]]
    stops: frozenset[int]


def export_case(name: str, root: Path) -> Exported:
    """Quantize and export one of ``MODELS`` below ``root``."""
    options = DareqConfig(bits=4, scale_dtype="bfloat16", table_bits=8)
    quantize_checkpoint(_checkpoint(name, root / "m"), root / "q", options)
    export_onnx(root / "q", root / "out")
    model = load(root / "out", compute="fp32")
    prompts = [model.encode(text).tolist() for text in TEXTS] if name == "opt-mini" else _TINY_PROMPTS
    expected = [list(model.generate(p, max_new_tokens=NEW, stop_ids=[]).ids) for p in prompts]
    return Exported(root / "out", root / "q", prompts, expected, model.folder.stop_ids)


def _checkpoint(name: str, folder: Path) -> Path:
    if name == "opt-mini":
        return _OPT_MINI
    if name == "llama":
        return tiny_llama(folder)
    if name == "opt post-LN":  # OPT-350m's form: norms behind the blocks, embedding projections
        return tiny_opt(folder, do_layer_norm_before=False, word_embed_proj_dim=32)
    return tiny_opt(folder, eos_token_id=95)  # an end-of-text that it writes
