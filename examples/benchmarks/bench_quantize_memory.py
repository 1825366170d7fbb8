"""Peak memory of quantize_checkpoint on a generated 1.3 B-parameter OPT (2.6 GB of fp16 shards).

    python examples/benchmarks/bench_quantize_memory.py [--table-bits 4|8|32] [--layers N] [--method NAME]

The bar: 4 x the largest tensor in fp32 + 500 MB, whatever the model's size. The child process that quantizes is
measured whole (ru_maxrss), imports included. Everything is written to a temporary folder and removed.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

VOCAB, HIDDEN, FFN, POSITIONS = 50272, 2048, 8192, 2048
MB = 1e6

CHILD = """
import resource, sys, time
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
imports = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
start = time.perf_counter()
table = {"32": None}.get(sys.argv[3], sys.argv[3])
options = QuantOptions(table_bits=table and int(table), scale_dtype="bfloat16", method=sys.argv[4])
quantize_checkpoint(sys.argv[1], sys.argv[2], options)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(imports, peak, time.perf_counter() - start)
"""


def write_model(folder: Path, layers: int) -> int:
    """Write random fp16 shards, one layer each; returns the number of parameters."""
    import torch
    from safetensors.torch import save_file
    from transformers import OPTConfig

    config = OPTConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        word_embed_proj_dim=HIDDEN,
        ffn_dim=FFN,
        num_hidden_layers=layers,
        num_attention_heads=32,
        max_position_embeddings=POSITIONS,
        dtype="float16",
    )
    config.save_pretrained(folder)
    base, norm = "model.decoder.", {"weight": (HIDDEN,), "bias": (HIDDEN,)}
    groups: list[dict[str, tuple[int, ...]]] = [
        {
            f"{base}embed_tokens.weight": (VOCAB, HIDDEN),
            f"{base}embed_positions.weight": (POSITIONS + 2, HIDDEN),
            **{f"{base}final_layer_norm.{k}": v for k, v in norm.items()},
        }
    ]
    for i in range(layers):
        prefix = f"{base}layers.{i}."
        shapes: dict[str, tuple[int, ...]] = {}
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= {f"self_attn.{name}.weight": (HIDDEN, HIDDEN), f"self_attn.{name}.bias": (HIDDEN,)}
        shapes |= {"fc1.weight": (FFN, HIDDEN), "fc1.bias": (FFN,)}
        shapes |= {"fc2.weight": (HIDDEN, FFN), "fc2.bias": (HIDDEN,)}
        shapes |= {f"{n}.{k}": v for n in ("self_attn_layer_norm", "final_layer_norm") for k, v in norm.items()}
        groups.append({prefix + name: shape for name, shape in shapes.items()})
    weight_map, count = {}, 0
    generator = torch.Generator().manual_seed(0)
    for i, group in enumerate(groups):
        file = f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors"
        tensors = {
            n: torch.empty(s, dtype=torch.float16).normal_(0, 0.02, generator=generator) for n, s in group.items()
        }
        count += sum(t.numel() for t in tensors.values())
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(group, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table-bits", choices=["4", "8", "32"], default="8")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--method", default="dareq")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dareq-memory-") as name:
        folder = Path(name)
        need = 4.5e9 * arguments.layers / 24 + 5e8
        if shutil.disk_usage(folder).free < need:
            print(f"needs {need / 1e9:.1f} GB free in {folder}; set TMPDIR to a larger disk", file=sys.stderr)
            return 1
        (folder / "model").mkdir()
        count = write_model(folder / "model", arguments.layers)
        start = time.perf_counter()
        command = [sys.executable, "-c", CHILD, str(folder / "model"), str(folder / "out")]
        command += [arguments.table_bits, arguments.method]
        child = subprocess.run(command, capture_output=True, text=True, check=False)
        if child.returncode:
            print(f"the child left with {child.returncode}\n{child.stderr}", file=sys.stderr)
            return 1
        imports, _, seconds = (float(x) for x in child.stdout.split())
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        before = sum(p.stat().st_size for p in (folder / "model").iterdir())
        after = sum(p.stat().st_size for p in (folder / "out").iterdir())
    bar = 4 * VOCAB * HIDDEN * 4 + 500 * MB
    sizes = f"{before / MB:.0f} MB -> {after / MB:.0f} MB"
    print(f"parameters {count / 1e9:.2f} B, {sizes}, table bits {arguments.table_bits}, {arguments.method}")
    print(f"quantized in {seconds:.1f} s (process {time.perf_counter() - start:.1f} s)")
    print(f"peak {peak / MB:.0f} MB (imports alone {imports / MB:.0f} MB), bar {bar / MB:.0f} MB")
    return 0 if peak < bar else 1


if __name__ == "__main__":
    sys.exit(main())
