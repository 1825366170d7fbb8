"""A tiny exported model with a tokenizer of its own: text goes in and comes out, byte by byte."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from dareq_edge.hf import DareqConfig
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from tiny_models import tiny_opt

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
VOCAB = 264
"""Four special tokens, the 256 bytes, and four pairs."""


def byte_tokenizer() -> Tokenizer:
    """Byte-level BPE whose ids are those of the special tokens, then of the bytes, then of four pairs."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("t", "h"), ("e", "r"), ("i", "n"), ("o", "u")]
    words = [*SPECIAL, *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def text_export(folder: Path) -> Path:
    """A two-layer OPT in 4 bits, exported to ``folder``/onnx with its tokenizer; takes a capture, some seconds."""
    source = tiny_opt(folder / "source", vocab_size=VOCAB)
    byte_tokenizer().save(str(source / "tokenizer.json"))
    quantize_checkpoint(source, folder / "quantized", DareqConfig(table_bits=8, method="rtn"))
    export_onnx(folder / "quantized", folder / "onnx")
    return folder / "onnx"
