from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from dareq_edge.manifest import Manifest
from dareq_runtime import load
from dareq_runtime.tokenizer import TextStream, decode, read_tokenizer

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_level() -> Tokenizer:
    """One token per byte: every non-ASCII character is split."""
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(["</s>", *ALPHABET])}, []))
    tokenizer.add_special_tokens(["</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 0)])
    return tokenizer


@pytest.mark.parametrize("text", ["plain", "é", "漢字 and 🙂🙂 mixed é", " leading", "a\n\nb ", "🙂"])
def test_stream_gives_whole_characters_only(text: str) -> None:
    tokenizer = byte_level()
    stream = TextStream(tokenizer)
    pieces = [stream.add(i) for i in tokenizer.encode(text).ids]
    assert "".join(pieces) == text
    assert not any("\ufffd" in p for p in pieces)
    assert stream.finish() == ""


def test_stream_gives_the_incomplete_end_at_last() -> None:
    tokenizer = byte_level()
    ids = tokenizer.encode("ab🙂").ids[:-1]
    stream = TextStream(tokenizer)
    given = "".join(stream.add(i) for i in ids)
    assert given == "ab"
    assert given + stream.finish() == decode(tokenizer, ids)


def test_specials_are_not_text() -> None:
    tokenizer = byte_level()
    stream = TextStream(tokenizer)
    assert "".join(stream.add(i) for i in [0, *tokenizer.encode("x").ids, 0]) + stream.finish() == "x"


def test_bpe_files_instead_of_tokenizer_json(tmp_path: Path) -> None:
    assert read_tokenizer(tmp_path) is None
    vocab = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", *ALPHABET, "ab"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    without = read_tokenizer(tmp_path)
    assert without is not None
    assert without.encode("ab").ids == [vocab["ab"]]
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"add_bos_token": True, "bos_token": {"content": "</s>", "special": True}})
    )
    with_bos = read_tokenizer(tmp_path)
    assert with_bos is not None
    assert with_bos.encode("ab").ids == [2, vocab["ab"]]
    assert decode(with_bos, [2, vocab["ab"]]) == "ab"


def test_text_through_a_model(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "with-tokenizer"))
    vocab = {t: i for i, t in enumerate(["<s>", "<pad>", "</s>", *ALPHABET[:93]])}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    Manifest(kind="onnx", source="x").with_files(folder).write(folder)
    model = load(folder)
    pieces: list[str] = []
    got = model.generate("Hi", max_new_tokens=12, on_token=lambda row, token, text: pieces.append(text))
    assert got == model.generate(model.encode("Hi"), max_new_tokens=12)
    assert got.text == "".join(pieces)
    assert got.text
