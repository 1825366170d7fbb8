"""A checkpoint with only vocab.json and merges.txt, as on the hub, gets the tokenizer.json that clients read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from dareq_edge.errors import ExportError
from dareq_export.capture import write_fast_tokenizer

ROOT = Path(__file__).parents[2]
OPT = ROOT.parent / "shared/data/opt-tokenizer"
CONFIG = {
    "tokenizer_class": "GPT2Tokenizer",
    "add_bos_token": True,
    "bos_token": {"__type": "AddedToken", "content": "</s>", "lstrip": False, "normalized": True, "rstrip": False},
    "eos_token": "</s>",
    "unk_token": "</s>",
    "pad_token": "<pad>",
}


def slow_folder(tmp_path: Path, files: Path) -> Path:
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(files / name, tmp_path / name)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "opt"}))
    return tmp_path


def test_the_converted_tokenizer_gives_the_same_ids(tmp_path: Path) -> None:
    mini = ROOT / "examples/models/opt-mini"
    out = tmp_path / "out"
    out.mkdir()
    write_fast_tokenizer(slow_folder(tmp_path, mini), out)
    text = "The people of the United States, in 1998 , said: ünïcode!"
    found, expected = (Tokenizer.from_file(str(f / "tokenizer.json")).encode(text).ids for f in (out, mini))
    assert found == expected
    assert found[0] == 2


@pytest.mark.skipif(not OPT.is_dir(), reason="the shared data folder is not beside this checkout")
def test_opts_own_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    write_fast_tokenizer(slow_folder(tmp_path, OPT), out)
    assert Tokenizer.from_file(str(out / "tokenizer.json")).encode("Hello world").ids == [2, 31414, 232]


def test_no_tokenizer_is_no_error(tmp_path: Path) -> None:
    write_fast_tokenizer(tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_cannot_be_converted_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"not sentencepiece")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    with pytest.raises(ExportError, match="install sentencepiece"):
        write_fast_tokenizer(tmp_path, tmp_path)
