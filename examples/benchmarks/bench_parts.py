"""What each kind of matrix costs when it alone is quantized: is a bit worth as much everywhere?

    python -m examples.benchmarks.bench_parts MODEL QUANTIZED --text FILE [--text FILE ...] [--max-tokens N]

QUANTIZED is a checkpoint that `dareq-edge quantize` made of MODEL, without folds (`dareq-entropy+balance=false`): all
its float tensors must be those of MODEL. Printed is the divergence from the float model, nats per token, with all
matrices of one kind (all q_proj, ...) quantized and the rest float, per million weights: a recipe that spends bits
where they are worth most makes these alike. The last line compares their sum with everything quantized.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def texts(model: str, paths: list[Path], most: int) -> list[torch.Tensor]:
    """The first tokens of every text, in rows of 512."""
    import torch

    from dareq_runtime.tokenizer import read_tokenizer
    from dareq_runtime.tokens import read_tokens

    rows: list[torch.Tensor] = []
    for path in paths:
        ids = read_tokens(text=path, tokenizer=read_tokenizer(Path(model))).sequences[0][:most]
        rows += [part for part in torch.as_tensor(ids).split(512) if len(part) > 1]
    return rows


def divergence(model: torch.nn.Module, rows: list[torch.Tensor], base: list[torch.Tensor]) -> float:
    """KL(float model, ``model``), nats per token."""
    import torch

    nats = count = 0.0
    with torch.no_grad():
        for row, expected in zip(rows, base, strict=True):
            found = torch.log_softmax(model(row[None]).logits[0].float(), -1)
            nats += float((expected.exp() * (expected - found)).sum())
            count += len(row)
    return nats / count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("quantized", type=Path)
    parser.add_argument("--text", type=Path, action="append", required=True)
    parser.add_argument("--max-tokens", type=int, default=2048, help="of each text")
    arguments = parser.parse_args()

    import torch

    from dareq_edge.checkpoint import Checkpoint
    from dareq_edge.quantized import read_plan
    from dareq_edge.reference import load_reference

    model, changed = load_reference(arguments.model).model, load_reference(arguments.quantized).model
    plan = read_plan(Checkpoint.open(str(arguments.quantized)))
    tables = {id(model.get_input_embeddings()), id(model.get_output_embeddings())}
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for name in plan:
        if id(model.get_submodule(name)) not in tables:
            kinds[name.rsplit(".", 1)[-1]].append(f"{name}.weight")
    if not kinds:
        parser.error(f"no matrix of {arguments.quantized} is quantized; make it with dareq-edge quantize")
    planned = {f"{name}.weight" for name in plan}
    mine, others = dict(model.named_parameters()), dict(changed.named_parameters())
    for name, tensor in mine.items():
        if name not in planned and not torch.equal(tensor, others[name]):
            parser.error(f"{name} of {arguments.quantized} is not {arguments.model}'s; quantize with balance=false")

    rows = texts(arguments.model, arguments.text, arguments.max_tokens)
    with torch.no_grad():
        base = [torch.log_softmax(model(row[None]).logits[0].float(), -1) for row in rows]

    def replaced(names: list[str]) -> float:
        kept = {name: mine[name].data for name in names}
        for name in names:
            mine[name].data = others[name].data
        found = divergence(model, rows, base)
        for name, tensor in kept.items():
            mine[name].data = tensor
        return found

    total = 0.0
    print(f"{'kind':12} {'weights, M':>10} {'KL':>9} {'KL per M':>10}")
    for kind, names in kinds.items():
        weights, nats = sum(mine[name].numel() for name in names) / 1e6, replaced(names)
        total += nats
        print(f"{kind:12} {weights:10.1f} {nats:9.5f} {nats / weights:10.6f}", flush=True)
    print(f"sum {total:.5f}, all together {replaced([n for names in kinds.values() for n in names]):.5f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
