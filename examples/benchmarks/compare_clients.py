"""Greedy tokens of one exported folder in our runtime, optimum and onnxruntime-genai, one by one and left-padded.

    python examples/benchmarks/compare_clients.py FOLDER [--compute fp32] [--new 100]

One by one, all three must agree. A left-padded batch is the same arithmetic only up to the order of float sums: in
fp32 compute its tokens are equal; in int8 compute a sum that lands on the other side of a rounding changes an
activation by one int8 step, and near ties between tokens may fall the other way. This script counts how often.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from optimum.onnxruntime import ORTModelForCausalLM

import dareq_runtime

PROMPTS = [
    "The people of the United States",
    "He said that",
    "In 1998 , the game was released for",
    " = Music = ",
    "My fellow citizens",
    "Once upon a time there was a little girl named Lily and she",
    "President of the",
    "A",
]


def optimum_tokens(model: ORTModelForCausalLM, prompts: list[list[int]], new: int) -> list[list[int]]:
    """Greedy continuations of one left-padded batch."""
    width = max(map(len, prompts))
    ids = torch.tensor([[1] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    out = model.generate(ids, attention_mask=mask, max_new_tokens=new, do_sample=False, eos_token_id=None)
    return [[int(t) for t in row[width:]] for row in out]


def genai_tokens(folder: Path, prompts: list[list[int]], new: int) -> list[list[int]]:
    """Greedy continuations one by one; genai always stops at the end-of-text token."""
    import onnxruntime_genai as genai

    model, rows = genai.Model(str(folder)), []
    for prompt in prompts:
        parameters = genai.GeneratorParams(model)
        parameters.set_search_options(max_length=len(prompt) + new, do_sample=False)
        generator = genai.Generator(model, parameters)
        generator.append_tokens(np.array(prompt, dtype=np.int32))
        while not generator.is_done():
            generator.generate_next_token()
        rows.append([int(t) for t in generator.get_sequence(0)][len(prompt) :])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--compute", choices=["int8", "fp32"], default="int8")
    parser.add_argument("--new", type=int, default=100)
    args = parser.parse_args()
    options = ort.SessionOptions()
    if args.compute == "fp32":
        options.add_session_config_entry("session.disable_prepacking", "1")
    ours = dareq_runtime.load(args.folder, compute=args.compute)
    optimum = ORTModelForCausalLM.from_pretrained(args.folder, session_options=options)
    prompts = [ours.encode(text).tolist() for text in PROMPTS]
    settings = {"max_new_tokens": args.new, "stop_ids": []}
    alone = [list(ours.generate(p, max_new_tokens=args.new, stop_ids=[]).ids) for p in prompts]
    found = {
        "optimum, one by one": [optimum_tokens(optimum, [p], args.new)[0] for p in prompts],
        "optimum, left-padded batch": optimum_tokens(optimum, prompts, args.new),
        "ours, batch": [list(g.ids) for g in ours.generate_batch(prompts, **settings)],
        "ours, batch, together=True": [list(g.ids) for g in ours.generate_batch(prompts, **settings, together=True)],
    }
    if args.compute == "int8":
        rows = genai_tokens(args.folder, prompts, args.new)
        found["onnxruntime-genai, one by one"] = [r + a[len(r) :] for r, a in zip(rows, alone, strict=True)]
    for name, rows in found.items():
        same = sum(a == b for a, b in zip(alone, rows, strict=True))
        print(f"{args.compute} {name}: {same} of {len(prompts)} rows of {args.new} tokens equal to ours one by one")


if __name__ == "__main__":
    main()
