"""Train opt-mini, the 5.9 M-parameter OPT that the demo and the tests use.

    python examples/train_opt_mini.py --text corpus/*.txt --out examples/models/opt-mini

Every paragraph of --heldout is removed from the corpus first. The run checkpoints into ``OUT.work`` and
resumes from there (a larger --steps continues a finished run); about an hour on two cores. See
examples/models/opt-mini/README.md for the corpus used.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import OPTConfig, OPTForCausalLM

CONTEXT = 512
BOS = 2  # OPT starts every text with </s>
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
CONFIG = OPTConfig(
    vocab_size=4096,
    hidden_size=256,
    word_embed_proj_dim=256,
    num_hidden_layers=6,
    num_attention_heads=4,
    ffn_dim=1024,
    max_position_embeddings=CONTEXT,
    attention_dropout=0.0,
)


def wikitext_style(text: str) -> str:
    """Ordinary prose → WikiText's spacing: punctuation apart, " @-@ " for hyphens, " @,@ " inside numbers."""
    text = re.sub(r"(?<=\d)([.,])(?=\d)", r" @\1@ ", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " @-@ ", text)
    text = re.sub(r"(?<!@)([,;:!?()\[\]\"])(?!@)", r" \1 ", text)
    text = re.sub(r"\.(?=\s|$)", " .", text)
    text = re.sub(r"(?<=\w)('s|n't|'re|'ve|'ll)\b", r" \1", text)
    return re.sub(r" {2,}", " ", text)


def read_documents(path: Path, heldout: set[str], *, restyle: bool = False) -> list[str]:
    """Split one file into documents of at least ~1 KB, without mark-up and held-out paragraphs."""
    text = re.sub(r"</?doc[^>]*>\n?", "\n\n", path.read_text(encoding="utf-8"))
    text = wikitext_style(text) if restyle else text
    kept = "\n".join(line for line in text.split("\n") if line.strip() not in heldout)
    documents, current = [], ""
    for chunk in re.split(r"\n\s*\n(?= ?\S)", kept):
        current = f"{current}\n\n{chunk}" if current else chunk
        if len(current) >= 1000:
            documents.append(current)
            current = ""
    return [*documents, current] if current.strip() else documents


def train_tokenizer(texts: Iterator[str]) -> Tokenizer:
    """Byte-level BPE with OPT's special ids: <s>=0 <pad>=1 </s>=2 <unk>=3, and a leading </s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG.vocab_size,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="</s> $A", pair="</s> $A </s> $B", special_tokens=[("</s>", BOS)]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, out: Path) -> None:
    """Write tokenizer.json, vocab.json + merges.txt and the class name every client knows."""
    tokenizer.save(str(out / "tokenizer.json"))
    tokenizer.model.save(str(out))
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "add_bos_token": True,
        "add_prefix_space": False,
        "bos_token": "</s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "</s>",
        "model_max_length": CONTEXT,
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def batches(stream: np.ndarray, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Random windows [size, CONTEXT]; half of them start with </s>, as prompts do."""
    rng = np.random.default_rng(seed)
    while True:
        starts = rng.integers(0, len(stream) - CONTEXT, size)
        rows = np.stack([stream[s : s + CONTEXT] for s in starts])
        rows[rng.random(size) < 0.5, 0] = BOS
        yield torch.from_numpy(rows.astype(np.int64))


def loss_of(model: OPTForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=ids).last_hidden_state
        logits = model.lm_head(hidden[:, :-1])
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm-up over 100 steps, flat, then linear to zero over the last half."""
    return peak * min(1.0, (step + 1) / 100, 2 * (steps - step) / steps)


def make_optimizers(model: OPTForCausalLM, peak: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for tables, norms and biases."""
    inner = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    rest = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(inner, lr=peak, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=peak, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(args: argparse.Namespace, stream: np.ndarray, work: Path) -> OPTForCausalLM:
    torch.manual_seed(args.seed)
    CONFIG.dropout = args.dropout
    model = OPTForCausalLM(CONFIG)
    optimizers = make_optimizers(model, args.lr)
    first, state = 0, work / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        first = saved["step"]
        model.load_state_dict(saved["model"])
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
    source = batches(stream, args.batch, args.seed + first)
    began, smooth = time.monotonic(), 0.0
    for step in range(first, args.steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, args.steps, args.lr)
        loss = loss_of(model, next(source))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        smooth = loss.item() if not smooth else 0.98 * smooth + 0.02 * loss.item()
        if (step + 1) % 50 == 0:
            rate = (step + 1 - first) * args.batch * CONTEXT / (time.monotonic() - began)
            print(f"step {step + 1}/{args.steps} loss {smooth:.4f} {rate:.0f} tokens/s", flush=True)
        if (step + 1) % 250 == 0:
            parts = [o.state_dict() for o in optimizers]
            torch.save({"step": step + 1, "model": model.state_dict(), "optimizers": parts}, state)
    return model


def parse_args() -> argparse.Namespace:
    here = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="training text files")
    parser.add_argument("--repeat", nargs="*", default=[], help="NAME=N: weight of a file (by file name)")
    parser.add_argument("--restyle", type=Path, nargs="*", default=[], help="add again in WikiText's spacing")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--heldout", type=Path, default=here.parent / "dareq_edge/data/inaugural-addresses.txt")
    parser.add_argument("--out", type=Path, default=here / "models" / "opt-mini")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    work = args.out.with_name(args.out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    heldout = {line.strip() for line in args.heldout.read_text("utf-8").split("\n") if line.strip()}
    corpus = {path.name: read_documents(path, heldout) for path in args.text}
    saved = args.out / "tokenizer.json"
    if saved.exists():
        tokenizer = Tokenizer.from_file(str(saved))
    else:
        tokenizer = train_tokenizer(doc for docs in corpus.values() for doc in docs)
        save_tokenizer(tokenizer, args.out)
    styled = {f"{path.name}:wikitext": read_documents(path, heldout, restyle=True) for path in args.restyle}
    corpus |= styled
    repeat = {name: int(n) for name, n in (item.split("=") for item in args.repeat)}
    pieces: list[int] = []
    for name, docs in corpus.items():
        ids = [i for encoding in tokenizer.encode_batch(docs) for i in encoding.ids]
        pieces += ids * repeat.get(name, 1)
        print(f"{name}: {len(ids)} tokens x {repeat.get(name, 1)}", flush=True)
    model = train(args, np.asarray(pieces, dtype=np.int32), work)
    model.half().save_pretrained(args.out, safe_serialization=True)
    print(f"saved {args.out}")


if __name__ == "__main__":
    main()
