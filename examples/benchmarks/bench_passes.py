"""What every graph pass is worth: the same model exported without each in turn, timed side by side.

    python examples/benchmarks/bench_passes.py shapes/opt-125m/quantized
    python examples/benchmarks/bench_passes.py --llama-layers 10

CHECKPOINT is a folder that ``dareq-edge quantize`` wrote; without one, so many layers of SmolLM2-135M's shape with
random weights, 4-bit table. All variants are open in one process and take turns; every
figure is the median over rounds of (variant / all passes) in the same round, so that a machine whose speed drifts
changes nothing. Above 1: the pass helps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from transformers import LlamaConfig, LlamaForCausalLM

from dareq_edge.manifest import Manifest
from dareq_edge.plan import QuantOptions
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export, export_onnx, passes
from dareq_export.operators import summarize
from dareq_runtime import OnnxModel, load
from dareq_runtime.decoder import Cache, extend

CONTEXT, STEPS = 128, 16
OPTIONAL = [
    "RmsNormPass", "RotaryPass", "ReshapeChainsPass", "FlatRegionsPass", "QueryScalePass", "JoinedAttentionPass",
    "JoinedGatePass", "LastPositionsPass",
]  # fmt: skip
WHOLE = "all passes"


def random_llama(root: Path, layers: int) -> Path:
    """A quantized checkpoint of SmolLM2-135M's shape."""
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=layers, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).half().save_pretrained(root / "float")
    quantize_checkpoint(root / "float", root / "quantized", QuantOptions(table_bits=4, method="rtn"))
    return root / "quantized"


def build(checkpoint: Path, out: Path, without: tuple[str, ...]) -> Manifest:
    """Export with some passes left out."""
    usual = export.clean
    export.clean = lambda model: passes.clean(model, without)
    try:
        return export_onnx(checkpoint, out)
    finally:
        export.clean = usual


def times(model: OnnxModel) -> tuple[float, float]:
    """Seconds of a prompt of CONTEXT tokens, and of a step after it."""
    ids = np.random.default_rng(0).integers(0, model.vocab_size, CONTEXT)
    cache = Cache(model.graph, 1, CONTEXT + STEPS)
    began = time.perf_counter()
    extend(cache.lane(0, 1), ids, done=0, last_only=True)
    prompt = time.perf_counter() - began
    step = cache.stepper(total=CONTEXT)
    steps = []
    for token in ids[:STEPS]:
        began = time.perf_counter()
        step([int(token)])
        steps.append(time.perf_counter() - began)
    return prompt, median(steps[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--llama-layers", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = args.checkpoint or random_llama(Path(scratch), args.llama_layers)
        variants = {WHOLE: (), **{f"without {name}": (name,) for name in OPTIONAL}, "none of them": tuple(OPTIONAL)}
        models, operators = {}, {}
        for index, (name, without) in enumerate(variants.items()):
            folder = Path(scratch) / str(index)
            build(checkpoint, folder, without)
            operators[name] = summarize(folder)
            if without and operators[name] == operators[WHOLE]:
                print(f"{name}: the same graph, not timed")
                continue
            models[name] = load(folder, threads=args.threads, verify=False)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
        for _ in range(args.rounds):
            for name, model in models.items():
                found[name].append(times(model))
    print(f"{'':34} operators  step ms  ratio  prompt ms  ratio   (medians of {args.rounds} rounds)")
    for name, rows in found.items():
        pairs = list(zip(rows, found[WHOLE], strict=True))
        cells = [f"{operators[name].total:9,}"]
        for index, form in ((1, "{:8.2f}"), (0, "{:10.1f}")):
            cells.append(form.format(1e3 * median(row[index] for row in rows)))
            cells.append(f"{median(row[index] / whole[index] for row, whole in pairs):6.3f}")
        print(f"{name:34}", *cells)


if __name__ == "__main__":
    main()
