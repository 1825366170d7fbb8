"""Greedy tokens of one exported folder in every client that is installed, as a table against our runtime.

    python -m examples.benchmarks.compare_clients FOLDER [--compute fp32] [--new 64] [--prompts 8] [--batches]

One by one, all clients must agree in fp32 compute. In int8 compute the kernels of another onnxruntime may round an
activation the other way, and near ties between tokens then fall the other way; the table says how often, and where
first. ``--batches`` adds left-padded batches, of which the same is true. Node clients need npm ci in
examples/clients/node first.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

import dareq_runtime
from examples.clients import genai_client, node_clients, optimum_client

TEXTS = [
    "The people of the United States",
    "He said that",
    "In 1998 , the game was released for",
    " = Music = ",
    "My fellow citizens",
    "Once upon a time there was a little girl named Lily and she",
    "President of the",
    "A",
]
Rows = list[list[int]]


@dataclass(frozen=True, slots=True)
class Case:
    """What every client is given: the folder, its compute level, prompts as token ids, and tokens wanted."""

    folder: Path
    compute: str
    prompts: Rows
    new: int


def by_optimum(case: Case) -> tuple[Rows, str]:
    """Tokens and onnxruntime's version."""
    model = optimum_client.open_model(case.folder, case.compute)
    return [optimum_client.greedy(model, p, case.new) for p in case.prompts], ort.__version__


def by_optimum_batch(case: Case) -> tuple[Rows, str]:
    """The same for all prompts in one left-padded batch."""
    width = max(map(len, case.prompts))
    ids = torch.tensor([[1] * (width - len(p)) + p for p in case.prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in case.prompts])
    settings = {"max_new_tokens": case.new, "do_sample": False, "eos_token_id": None}
    model = optimum_client.open_model(case.folder, case.compute)
    out = model.generate(ids, attention_mask=mask, **settings)
    return [[int(t) for t in row[width:]] for row in out], ort.__version__


def by_genai(case: Case) -> tuple[Rows, str]:
    """Tokens up to end-of-text, at which genai always stops."""
    model = genai_client.open_model(case.folder, case.compute)
    return [list(genai_client.stream(model, p, case.new)) for p in case.prompts], ort.__version__


def by_node(client: str) -> Callable[[Case], tuple[Rows, str]]:
    """Tokens of one of the Node clients."""

    def tokens(case: Case) -> tuple[Rows, str]:
        answer = node_clients.ask(client, case.folder, case.prompts, case.new, compute=case.compute)
        return answer.tokens, answer.onnxruntime

    return tokens


def by_ours(together: bool) -> Callable[[Case], tuple[Rows, str]]:
    """Tokens of our own batches."""

    def tokens(case: Case) -> tuple[Rows, str]:
        model = dareq_runtime.load(case.folder, compute=case.compute)
        found = model.generate_batch(case.prompts, max_new_tokens=case.new, stop_ids=[], together=together)
        return [list(g.ids) for g in found], ort.__version__

    return tokens


def clients(batches: bool) -> dict[str, Callable[[Case], tuple[Rows, str]]]:
    """Name -> client, of those that can run here."""
    found = {"optimum": by_optimum, "onnxruntime-genai": by_genai}
    reason = node_clients.missing()
    if reason is None:
        found |= {"transformers.js": by_node("transformers_js"), "onnxruntime-node": by_node("onnxruntime_node")}
    else:
        print(f"without the Node clients: {reason}")
    if batches:
        found |= {"optimum, left-padded batch": by_optimum_batch}
        found |= {"ours, batch": by_ours(False), "ours, batch, together=True": by_ours(True)}
    return found


def difference(expected: Rows, found: Rows, stops: Collection[int]) -> str:
    """How many rows are equal, and the earliest token that is not; a row may end early with a token of ``stops``."""
    first: list[int | None] = []
    for row, other in zip(expected, found, strict=True):
        until = len(other) if other and other[-1] in stops else len(row)
        pairs = zip_longest(row[:until], other)
        first.append(next((i for i, (a, b) in enumerate(pairs) if a != b), None))
    others = [i for i in first if i is not None]
    where = f", first at token {min(others) + 1}" if others else ""
    return f"{len(first) - len(others)} of {len(first)} equal{where}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compute", choices=["int8", "fp32"], action="append", help="both, unless given")
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--prompts", type=int, default=len(TEXTS), help="how many")
    parser.add_argument("--batches", action="store_true", help="left-padded batches as well")
    args = parser.parse_args()
    for compute in args.compute or ["fp32", "int8"]:
        ours = dareq_runtime.load(args.folder, compute=compute)
        if (args.folder / "tokenizer.json").is_file():
            prompts = [ours.encode(text).tolist() for text in TEXTS[: args.prompts]]
        else:  # a shape with random weights
            generator = np.random.default_rng(0)
            prompts = [generator.integers(4, ours.vocab_size, n + 3).tolist() for n in range(args.prompts)]
        case = Case(args.folder, compute, prompts, args.new)
        expected = [list(ours.generate(p, max_new_tokens=args.new, stop_ids=[]).ids) for p in prompts]
        distinct = [len(set(row)) for row in expected]
        print(f"\n{compute} compute, {args.new} tokens ({min(distinct)} to {max(distinct)} different ones),", end=" ")
        print(f"against ours on onnxruntime {ort.__version__}", flush=True)
        for name, client in clients(args.batches).items():
            found, version = client(case)
            print(f"| {name} | {version} | {difference(expected, found, ours.folder.stop_ids)} |", flush=True)


if __name__ == "__main__":
    main()
