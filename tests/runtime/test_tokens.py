from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from dareq_edge.errors import DataError, SpecError
from dareq_runtime import hub
from dareq_runtime.tokenizer import byte_level_bpe
from dareq_runtime.tokens import read_tokens, split_rows

SHARED = Path(__file__).parents[3] / "shared/data"
WIKI = SHARED / "wikitext-2-raw/wiki.test.raw"


def byte_tokenizer(*, bos: bool = True) -> Tokenizer:
    """One token per byte, after a leading </s> of id 0."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 0)])
    return tokenizer


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a\n \nb\n", ["a\n", "", "b\n"]),
        (" \n = T = \n \n", ["", " = T = \n", ""]),
        ("a", ["a\n"]),
        ("a\n\n", ["a\n", ""]),
        ("a\u2028b\x0cc\n", ["a\u2028b\x0cc\n"]),
    ],
)
def test_rows_golden(content: str, rows: list[str]) -> None:
    assert split_rows(content) == rows


@pytest.mark.skipif(not WIKI.is_file(), reason="../shared/data is not beside the checkout")
def test_published_token_count_of_wikitext2() -> None:
    vocab, merges = SHARED / "opt-tokenizer/vocab.json", SHARED / "opt-tokenizer/merges.txt"
    tokens = read_tokens(text=WIKI, tokenizer=byte_level_bpe(vocab, merges, "</s>"))
    assert len(tokens) == 287_645
    assert tokens.sequences[0][0] == 2
    assert tokens.sequences[0][1:].min() > 3
    rows = split_rows(WIKI.read_text(encoding="utf-8"))
    assert tokens.token_bytes is not None
    assert tokens.token_bytes[0].sum() == len("\n\n".join(rows).encode())
    lines = read_tokens(text=WIKI, tokenizer=byte_level_bpe(vocab, merges, "</s>"), unit="lines")
    assert len(lines.sequences) == 2891


@pytest.mark.skipif(not WIKI.is_file(), reason="../shared/data is not beside the checkout")
def test_opt_tokenizer_golden() -> None:
    folder = SHARED / "opt-tokenizer"
    tokenizer = byte_level_bpe(folder / "vocab.json", folder / "merges.txt", "</s>")
    assert tokenizer.encode("Hello world").ids == [2, 31414, 232]


def test_layouts(tmp_path: Path) -> None:
    for name, layout, expected in [
        ("x.raw", "auto", "a\n\n\nb\n"),
        ("x.txt", "auto", "a\nb\n"),
        ("x.txt", "rows", "a\n\n\nb\n"),
        ("x.raw", "plain", "a\nb\n"),
    ]:
        (tmp_path / name).write_text("a\nb\n")
        tokens = read_tokens(text=tmp_path / name, tokenizer=byte_tokenizer(), layout=layout)  # type: ignore[arg-type]
        assert len(tokens) == 1 + len(expected)


def test_lines_skip_blank_ones_and_each_gets_the_leading_token(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("ab\n  \n\nc\n")
    tokens = read_tokens(text=tmp_path / "x.txt", tokenizer=byte_tokenizer(), unit="lines")
    assert [len(s) for s in tokens.sequences] == [3, 2]
    assert all(s[0] == 0 for s in tokens.sequences)


def test_bytes_per_token_add_up(tmp_path: Path) -> None:
    content = "aé漢🙂 z\n\n"
    (tmp_path / "x.txt").write_text(content)
    tokens = read_tokens(text=tmp_path / "x.txt", tokenizer=byte_tokenizer())
    assert tokens.token_bytes is not None
    assert tokens.token_bytes[0].tolist()[:4] == [0, 1, 2, 0]
    assert tokens.token_bytes[0].sum() == len(content.encode())


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint16])
def test_ids_from_a_file(tmp_path: Path, dtype: type) -> None:
    np.save(tmp_path / "x.npy", np.arange(5, dtype=dtype))
    tokens = read_tokens(tokens=tmp_path / "x.npy")
    assert tokens.sequences[0].dtype == np.int64
    assert tokens.sequences[0].tolist() == [0, 1, 2, 3, 4]
    assert tokens.token_bytes is None
    with pytest.raises(DataError, match="id 4 but the model's vocabulary is 4"):
        tokens.check(4)
    tokens.check(5)


@pytest.mark.parametrize("bad", [np.zeros((2, 2), np.int64), np.zeros(3), np.zeros(0, np.int64), np.array(["a"])])
def test_bad_arrays(tmp_path: Path, bad: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", bad)
    with pytest.raises(DataError, match=r"1-D array of int64|no numbers"):
        read_tokens(tokens=tmp_path / "x.npy")


def test_bad_files(tmp_path: Path) -> None:
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "archive.npy.npz", a=np.arange(3))
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "blank.txt").write_text(" \n\n")
    for name in ("pickle.npy", "text.npy", "empty.npy", "archive.npy.npz", "missing.npy"):
        with pytest.raises(DataError, match=name):
            read_tokens(tokens=tmp_path / name)
    for name, words in [
        ("latin.txt", "byte 3"),
        ("blank.txt", "no text"),
        ("none.txt", "no text file"),
        (".", "read"),
    ]:
        with pytest.raises(DataError, match=words):
            read_tokens(text=tmp_path / name, tokenizer=byte_tokenizer())


def test_option_errors(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="exactly one"):
        read_tokens()
    with pytest.raises(SpecError, match="exactly one"):
        read_tokens(text=tmp_path, dataset="x")
    with pytest.raises(DataError, match=r"no tokenizer.*--tokens"):
        read_tokens(text=tmp_path / "x.txt")
    with pytest.raises(DataError, match="needs lines"):
        read_tokens(tokens=tmp_path / "x.npy", unit="lines")
    with pytest.raises(SpecError, match="available: wikitext-2-raw-v1"):
        read_tokens(dataset="wikitext", tokenizer=byte_tokenizer())


def test_no_package_or_network_names_the_alternative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'dareq-edge\[data\]'.*--text FILE"):
        hub.load_rows("wikitext-2-raw-v1")

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no route to huggingface.co\nmore")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=offline))
    with pytest.raises(DataError, match=r"no route to huggingface.co\); use --text FILE or --tokens"):
        hub.load_rows("wikitext-2-raw-v1")


def test_rows_of_a_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def load_dataset(*args: object, split: str) -> dict[str, list[str]]:
        calls.append((*args, split))
        return {"text": ["", "a\n", "b\n"]}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    tokens = read_tokens(dataset="wikitext-2-raw-v1", tokenizer=byte_tokenizer())
    assert calls == [("Salesforce/wikitext", "wikitext-2-raw-v1", "test")]
    assert len(tokens) == 1 + len("\n\na\n\n\nb\n")
