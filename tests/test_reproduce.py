"""dareq-edge reproduce: published figures as printed, the paper's accounting, candidate protocols, and runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tolerances
from dareq_edge.cli import comparison, main
from dareq_edge.cli import reproduction as reproducing
from dareq_edge.cli.reproduction import Task, lines
from dareq_edge.comparison import produce as producing
from dareq_edge.comparison.published import COUNTS, LITERATURE, MODELS, PAPER
from dareq_edge.errors import SpecError
from dareq_edge.recipes import names as recipe_names
from dareq_runtime.candidates import candidates
from text_models import VOCAB, byte_tokenizer
from tiny_models import tiny_opt

MINI = Path(__file__).parents[1] / "examples/models/opt-mini"


@pytest.mark.parametrize("method", ["fp32", "bnb8", "bnb4", "dareq"])
@pytest.mark.parametrize("table", [0, 1])
def test_the_paper_s_accounting_gives_the_paper_s_sizes(method: str, table: int) -> None:
    assert f"{COUNTS[table].sizes[method] / 1e6:.2f}" == PAPER[method].size_mb[table]


def test_published_figures_are_those_that_were_printed() -> None:
    assert [row.ppl for row in PAPER.values()] == [
        ("77.29", "61.94"),
        ("77.16", "62.31"),
        ("81.85", "71.31"),
        ("84.5", "67.8"),
        ("82.1", "65.5"),
        ("140.17", "94.15"),
    ]
    assert {p.source for printed in LITERATURE.values() for p in printed} == {
        "GPTQ, arXiv 2210.17323, table 3",
        "re-run",
        "Dercen/LLM-Precision",
        "COMP0252 student repository",
        "AMD Quark documentation",
    }


def test_every_line_is_a_recipe_and_names_published_rows() -> None:
    for line in lines("dareq"):
        assert line.paper in ("", *PAPER)
        assert line.literature in ("", *LITERATURE)
        name = line.recipe.split("@")[0].split("+")[0].split(":")[0]
        assert name in ("", "nf4", "fp4", *recipe_names())
    assert {line.paper for line in lines("dareq")} >= set(PAPER)


@dataclass
class Uniform:
    """A scorer that finds a token the likelier the lower its id: losses are known in closed form."""

    context_length: int
    vocab_size: int = VOCAB
    label: str = "uniform"

    def chunk_logits(self, ids: NDArray[np.int64], chunk: int = 128) -> Iterator[NDArray[np.float32]]:
        logits = -np.arange(self.vocab_size, dtype=np.float32)
        for start in range(0, len(ids), chunk):
            yield np.tile(logits, (len(ids[start : start + chunk]), 1))


def test_candidates_by_hand() -> None:
    tokenizer, rows = byte_tokenizer(), ["ab cd\n", "", " x\n", "efg hij klm\n"]
    found = {c.name: c for c in candidates(Uniform(64), rows, tokenizer)}
    log_sum = float(np.log(np.exp(-np.arange(VOCAB, dtype=np.float64)).sum()))

    def losses(text: str) -> NDArray[np.float64]:
        return np.array(tokenizer.encode(text).ids[1:]) + log_sum

    kept = [losses(row) for row in rows if row]
    stripped = [losses(row.strip()) for row in rows if len(row.strip()) > 1]
    wanted = {
        "lines-512-mean-keep-nobos-all": np.mean([x.mean() for x in kept]),
        "lines-512-tokens-keep-nobos-all": np.concatenate(kept).mean(),
        "lines-512-mean-strip-nobos-all": np.mean([x.mean() for x in stripped]),
    }
    for name, loss in wanted.items():
        assert np.log(found[name].ppl) == pytest.approx(loss, rel=tolerances.RUNTIME_NLL)
    assert found["lines-512-mean-keep-nobos-all"].texts == 3
    assert found["lines-512-mean-strip-nobos-all"].texts == 2, "a row of one token predicts nothing"
    assert not [name for name in found if "-bos-" in name], "this tokenizer has no leading token"
    long = {c.name for c in candidates(Uniform(2048), rows * 101, tokenizer)}
    assert {"chunks-64", "chunks-128", "lines-512-mean-keep-nobos-first200"} <= long


def test_tables() -> None:
    with pytest.raises(SpecError, match="give 1, 2 or 1,2"):
        Task("x", tables=(3,))
    assert main(["reproduce", "x", "--tables", "one"]) == 1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tiny float model ``m`` that has a tokenizer; recipes run in this process, which is faster."""
    tiny_opt(tmp_path / "m", vocab_size=VOCAB)
    byte_tokenizer().save(str(tmp_path / "m/tokenizer.json"))
    (tmp_path / "text.txt").write_text("the river runs over the stones in the south\n" * 20)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(comparison, "produce", lambda order, progress: producing._fill(order, progress))
    return tmp_path


def test_a_model_from_end_to_end(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = ("", "rtn", "nf4", "fp4", "dareq-reference", "gptq")  # the others are tried in the slow test
    monkeypatch.setattr(
        reproducing, "lines", lambda here: tuple(x for x in lines(here) if x.recipe.split("@")[0] in kept)
    )
    assert main(["reproduce", "m", "--text", "text.txt", "--tables", "2", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["reproductions"]
    rows = {row["label"]: row for row in found["rows"]}
    assert found["window"] == 128
    assert rows["fp32"]["paper"] == [{"model": MODELS[1], "ppl": "61.94", "size_mb": "1324.79"}]
    assert rows["GPTQ per row"]["ours"].startswith("left out: give --calibration")
    eight, four = rows["8 bits, absmax per row (BNB-8bit)"], rows["DARE-Q as published"]
    assert eight["ours"]["mean"]["text"]["kl"] < four["ours"]["mean"]["text"]["kl"]
    assert four["ours"]["production"]["weight_bytes"] > four["accounting_bytes"] > 0
    assert rows["EWQ, round to nearest"]["ours"]["failed"] is None
    assert {c["name"] for c in found["candidates"]} >= {"chunks-64", "lines-512-mean-strip-nobos-all"}


@pytest.mark.slow
def test_the_embedded_model_with_every_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "reproduce",
        str(MINI),
        "--here",
        "dareq:weights",
        "--max-tokens",
        "4096",
        "--out",
        str(tmp_path / "rows"),
    ]
    assert main(command) == 0
    shown = capsys.readouterr().out
    for words in ("77.29", "61.94", "140.17", "27.65", "DARE-Q as recommended here", "EntQuant", "paper's fp32 is"):
        assert words in shown
    assert "failed" not in shown
    assert "left out" not in shown, "the embedded text calibrates too"
    assert main([*command, "--json"]) == 0, "finished rows are read again"
    (found,) = json.loads(capsys.readouterr().out)["reproductions"]
    tried = {c["name"] for c in found["candidates"]}
    assert {"chunks-64", "chunks-128", "lines-512-mean-keep-nobos-all"} <= tried  # the nearest of these are shown
