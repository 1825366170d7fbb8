"""OPT-125m and OPT-350m shapes (random weights) through the whole line: times, bytes, and 200 greedy tokens.

    python examples/benchmarks/bench_shapes.py opt-125m --keep shapes/opt-125m
    python examples/benchmarks/bench_shapes.py opt-350m

Checks, and fails loudly: every planned matrix is lowered (the export does that), the data file has the size the
manifest says, and 200 greedy tokens in fp32 compute equal transformers' on the dequantized model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import OPTConfig, OPTForCausalLM

from dareq_edge.hf import DareqConfig
from dareq_edge.quantize import quantize_checkpoint
from dareq_edge.reference import load_reference
from dareq_export import export_onnx
from dareq_runtime import load

COMMON = {"vocab_size": 50272, "max_position_embeddings": 2048, "dropout": 0.0, "init_std": 0.05}
SHAPES = {
    "opt-125m": OPTConfig(
        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, ffn_dim=3072, word_embed_proj_dim=768, **COMMON
    ),
    "opt-350m": OPTConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        ffn_dim=4096,
        word_embed_proj_dim=512,
        do_layer_norm_before=False,
        **COMMON,
    ),
}
PROMPT = [2, 133, 750, 9, 5, 315, 532]
NEW, FORCED = 200, 512


def make_checkpoint(name: str, folder: Path) -> int:
    """Write a random fp16 checkpoint; returns the number of parameters."""
    torch.manual_seed(0)
    model = OPTForCausalLM(SHAPES[name])
    if not SHAPES[name].do_layer_norm_before:
        _vary(model)
    model.half().save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def _vary(model: OPTForCausalLM) -> None:
    """Positions count more and blocks less: else random blocks with norms behind them write one token forever."""
    model.model.decoder.embed_positions.weight.mul_(4)
    for layer in model.model.decoder.layers:
        layer.fc2.weight.mul_(0.1)
        layer.self_attn.out_proj.weight.mul_(0.1)


def run(name: str, root: Path, method: str, table_bits: int) -> None:
    parameters = make_checkpoint(name, root / "float")
    began = time.perf_counter()
    options = DareqConfig(bits=4, method=method, scale_dtype="bfloat16", table_bits=table_bits, position_bits=8)
    quantize_checkpoint(root / "float", root / "quantized", options, overwrite=True)
    quantized = time.perf_counter()
    manifest = export_onnx(root / "quantized", root / "onnx", overwrite=True)
    exported = time.perf_counter()
    size = sum(f.bytes for f in manifest.files.values())
    before = (root / "float/model.safetensors").stat().st_size
    assert manifest.files["model.onnx.data"].bytes == manifest.expected_bytes("model.onnx.data")
    lowered = sum(t.bits < 32 for t in manifest.tensors.values())
    print(
        f"{name}: {parameters:,} parameters, quantize {quantized - began:.1f} s, export {exported - quantized:.1f} s"
    )
    print(f"  {before:,} bytes fp16 -> {size:,} bytes on disk, {lowered} matrices lowered to int4/int8")
    ours, reference = load(root / "onnx", compute="fp32"), load_reference(root / "quantized")
    ids = np.random.default_rng(0).integers(4, 50265, FORCED)
    pairs = list(zip(reference.chunk_logits(ids), ours.chunk_logits(ids), strict=True))
    error = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
    same = float(np.mean(np.concatenate([a.argmax(1) == b.argmax(1) for a, b in pairs])))
    print(f"  {FORCED} random tokens, fp32 compute: largest logit error {error:.1e} of the largest, top-1 {same:.2%}")
    found = list(ours.generate(PROMPT, max_new_tokens=NEW, stop_ids=[]).ids)
    expected = [int(t) for t in reference.greedy(np.array(PROMPT), NEW)]
    same = next((i for i, (a, b) in enumerate(zip(found, expected, strict=True)) if a != b), NEW)
    print(f"  greedy tokens equal to transformers: {same} of {NEW} ({len(set(expected))} distinct)")
    assert same == NEW


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--keep", type=Path, help="folder to keep the checkpoint and the export in")
    parser.add_argument("--method", default="dareq", help="quantizer plug-in")
    parser.add_argument("--table-bits", type=int, choices=(4, 8), default=8, help="bits of embedding and head")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run(args.shape, args.keep or Path(scratch), args.method, args.table_bits)


if __name__ == "__main__":
    main()
