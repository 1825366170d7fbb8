"""dareq-edge bench from end to end on tiny models, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dareq_edge.cli import baselines, benchmark, main
from dareq_edge.cli.baselines import RECORD, Source, prepare
from dareq_edge.manifest import NAME
from dareq_edge.progress import silent
from dareq_runtime.bench.rounds import Runners
from dareq_runtime.bench.sample import Job, Sample
from tiny_decoder import TinyDecoder
from tiny_models import tiny_opt

QUICK = ("--prompts", "4,8", "--contexts", "8", "--new-tokens", "3", "--rounds", "1", "--threads", "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ours, ``ours``, and the same model as plain ONNX, ``plain``."""
    place = tmp_path_factory.mktemp("bench")
    TinyDecoder().write(place / "ours")
    shutil.copytree(place / "ours", place / "plain")
    (place / "plain" / NAME).unlink()
    return place


@pytest.fixture
def place(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Measure nothing: every figure is 1 s, 1 MB or 1 GB/s; the jobs that were asked for."""
    asked: list[Job] = []

    def run(job: Job) -> Sample:
        asked.append(job)
        times = [dict.fromkeys(lengths, 1.0) for lengths in (job.lengths.prompts, job.lengths.contexts)]
        return Sample(1.0, 1.0, 10**6, 10**6, 10**6, *times, "nothing")

    monkeypatch.setattr("dareq_runtime.bench.rounds.Runners", lambda: Runners(run, lambda threads: 1e9))
    return asked


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["bench", *map(str, arguments)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, " ".join(captured.err.split())


def test_ours_against_plain_onnx(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "ours", "--against", "plain", *QUICK, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    assert (found["threads"], found["rounds"], found["prompts"], found["contexts"]) == (1, 1, [4, 8], [8])
    assert "onnxruntime" in found["environment"]
    assert found["bandwidth"]["median"] > 0
    ours, plain = found["contestants"]
    assert [(c["label"], c["kind"]) for c in (ours, plain)] == [("ours", "dareq"), ("plain", "onnx")]
    assert ours["read_bytes_per_token"] == plain["read_bytes_per_token"]
    assert ours["floor"] == ours["read_bytes_per_token"] / found["bandwidth"]["high"]
    for name in ("load", "first_token", "prefill/4", "prefill/8", "decode/8"):
        a, b = ours["metrics"][name], plain["metrics"][name]
        assert b["ratio"] == pytest.approx(b["median"] / a["median"])
        assert a["ratio"] is None


def test_the_table_and_the_plot(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: list[Job]
) -> None:
    plot = tmp_path / "bench.svg"
    code, out, _ = call(capsys, "ours", "--against", "plain", "--against", "ours", "--plot", plot)
    assert code == 0
    # The context is 48: only the shortest prompt fits, and no context has room for 34 tokens and one more.
    assert [job.lengths.prompts for job in jobs] == [(16,)] * 9
    assert "left out: prompts of 128, 512, 1,024: no room for 1 token more in the context of 48" in out
    assert "decode" not in out
    rows = [line.split() for line in out.splitlines()]
    assert ["plain", "1,000", "1.00x"] in rows
    assert next(row for row in rows if row[:1] == ["plain"] and len(row) > 3)[1:5] == [
        "1,000",
        "1.00x",
        "1,000",
        "1.00x",
    ]
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")


def test_settings_reach_the_workers(place: Path, capsys: pytest.CaptureFixture[str], jobs: list[Job]) -> None:
    options = ("--prompts", "7, 3", "--contexts", "5", "--new-tokens", "2", "--rounds", "2", "--threads", "6")
    assert call(capsys, "plain", "--against", place / "ours", *options)[0] == 0
    assert [(j.label, j.kind, j.threads) for j in jobs] == [("plain", "onnx", 6), ("ours", "dareq", 6)] * 2
    assert {(j.lengths.prompts, j.lengths.contexts, j.lengths.new_tokens) for j in jobs} == {((3, 7), (5,), 2)}


def test_folders_of_the_same_name_are_told_apart(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], jobs: list[Job]
) -> None:
    shutil.copytree(place / "plain", tmp_path / "ours")
    assert call(capsys, "ours", "--against", tmp_path / "ours", *QUICK)[0] == 0
    assert [job.label for job in jobs] == ["ours", str(tmp_path / "ours")]


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["nowhere"], "there is no folder nowhere", 1),
        (["ours", "--against", "fp23"], "no built-in peer of that name; did you mean 'fp32'?", 1),
        (["ours", "--against", "llama"], "--against llama: there is no such folder", 1),
        (["ours", "--against", "."], "holds neither dareq.json, genai_config.json nor model.onnx", 1),
        (["ours", "--rounds", "0"], "Invalid value for '--rounds'", 2),
        (["ours", "--prompts", "16,x"], "--prompts is '16,x'; give whole numbers", 1),
        (["ours", "--contexts", "0"], "--contexts is '0'; give whole numbers", 1),
        (["ours", "--prompts", "50", "--contexts", "50"], "give shorter --prompts or --contexts", 1),
        (["ours", "--prompts", "", "--contexts", ""], "give --prompts or --contexts", 1),
        (["ours", "--plot", "x.pdf"], "name it .png or .svg", 1),
        (["ours", "--revision", "main"], "--model, which is not given", 1),
    ],
)
def test_mistakes_are_found_before_any_work(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
    code: int,
) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("work started")

    monkeypatch.setattr(benchmark, "prepare", never)
    monkeypatch.setattr("dareq_runtime.bench.rounds.Runners", never)
    found, out, err = call(capsys, *arguments)
    assert (found, out) == (code, "")
    assert words in err


def test_peers_need_optimum(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    code, out, err = call(capsys, "ours", "--against", "fp32", "--work", tmp_path)
    assert (code, out) == (1, "")
    assert "needs the package 'optimum', which is not installed; run: pip install \"dareq-edge[hf]\"" in err
    assert list(tmp_path.iterdir()) == []


def test_peers_are_built_once_per_source(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, jobs: list[Job]
) -> None:
    built: list[tuple[str, Source]] = []

    def build(name: str, source: Source, out: Path) -> dict[str, Any]:
        built.append((name, source))
        shutil.copytree(place / "plain", out, dirs_exist_ok=True)
        return {"note": f"made as {name}"}

    monkeypatch.setattr(baselines, "_build", build)
    arguments = ("ours", "--against", "ort-int4", "--against", "plain", "--against", "fp32", *QUICK)
    for _ in range(2):
        code, out, _ = call(capsys, *arguments, "--work", tmp_path, "--json")
        assert code == 0
        assert built == [(name, Source("ours", None, random=True)) for name in ("ort-int4", "fp32")]
    found = json.loads(out)
    assert [c["label"] for c in found["contestants"]] == ["ours", "ort-int4", "plain", "fp32"]
    assert found["notes"][-2:] == ["ort-int4: made as ort-int4", "fp32: made as fp32"]
    assert "random weights of the same shape" in found["notes"][0]
    code, out, _ = call(capsys, *arguments, "--work", tmp_path, "--model", "some/model", "--json")
    assert code == 0
    assert built[2:] == [(name, Source("some/model", None, random=False)) for name in ("ort-int4", "fp32")]
    assert not any("random" in note for note in json.loads(out)["notes"])


def test_another_folder_in_the_place_of_a_peer(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fp32").mkdir()
    code, _, err = call(capsys, "ours", "--against", "fp32", "--work", tmp_path)
    assert code == 1
    assert "is not a baseline that dareq-edge built; choose another --work" in err


@pytest.mark.slow  # imports optimum
def test_a_builder_that_fails(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "ours", "--against", "fp32", "--work", tmp_path)  # no model_type in its config.json
    assert (code, out) == (1, "")
    assert "fp32: transformers knows no language model with the config.json of ours; give --model" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("random", [True, False])
def test_the_built_in_peers_of_a_tiny_opt(tmp_path: Path, capsys: pytest.CaptureFixture[str], random: bool) -> None:
    tiny_opt(tmp_path / "m")
    source = Source(str(tmp_path / "m"), None, random=random)
    fp32, _ = prepare("fp32", source, tmp_path, silent)
    int4, note = prepare("ort-int4", source, tmp_path, silent)
    # q, k, v and out of both layers and the head are MatMul; fc1 and fc2 are Gemm, which the quantizer skips.
    assert "9 of 13 matrices quantized, the others stay float32" in note
    record = json.loads((int4 / RECORD).read_text())
    assert (record["quantized"], record["matrices"]) == (9, 13)
    code, out, err = call(capsys, fp32, "--against", int4, *QUICK, "--json")
    assert code == 0, err
    sizes = [c["read_bytes_per_token"] for c in json.loads(out)["contestants"]]
    assert 0 < sizes[1] < sizes[0]
