"""--report from end to end: the page's numbers are the command's, and there is no page where a command fails."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from dareq_edge.cli import comparison, main
from dareq_edge.comparison import produce as producing
from dareq_edge.reference import load_reference
from dareq_runtime import parity
from dareq_runtime.sampling import Sampling
from dareq_runtime.verdict import Tolerance
from tiny_models import tiny_opt

QUICK = ("--recipe", "rtn")
LABELS = ["torch fp32", "torch dareq", "onnx fp32 compute", "onnx int8 compute"]


def record_of(page: Path) -> dict[str, Any]:
    """The record in a page, which is well-formed."""
    tree = ElementTree.fromstring(page.read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>\n"))
    text = next(e.text for e in tree.iter("script") if e.attrib.get("id") == "record")
    found = json.loads(text or "")
    assert isinstance(found, dict)
    return found


def words(folder: Path) -> None:
    """A tokenizer of one letter per token."""
    vocabulary = {"</s>": 2, "<unk>": 3} | {chr(97 + i): 4 + i for i in range(26)}
    vocabulary |= {f"w{i}": i for i in range(96) if i not in vocabulary.values()}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float model ``m`` with a tokenizer, token ids ``t.npy``, its checkpoint ``q``; ``o`` and ``deploy.html``."""
    folder = tmp_path_factory.mktemp("report")
    tiny_opt(folder / "m")
    words(folder / "m")
    np.save(folder / "t.npy", np.random.default_rng(0).integers(4, 96, 300))
    assert main(["quantize", str(folder / "m"), "--out", str(folder / "q"), *QUICK]) == 0
    arguments = ["deploy", str(folder / "m"), "--out", str(folder / "o"), "--tokens", str(folder / "t.npy"), *QUICK]
    assert main([*arguments, "--report", str(folder / "deploy.html"), "--prompt", "abc"]) == 0
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_deploy(place: Path) -> None:
    out, page = place / "o", place / "deploy.html"
    record, found = record_of(page), json.loads((out / "parity.json").read_text())
    assert record["verdict"]["state"] == "passed"
    assert record["scores"] == found["scores"]
    assert record["links"] == found["links"]
    sizes = {row["label"]: row["bytes"] for row in record["sizes"]}
    assert sizes["ONNX graph and data"] == sum((out / n).stat().st_size for n in ("model.onnx", "model.onnx.data"))
    assert sizes["float weights, as stored"] == (place / "m/model.safetensors").stat().st_size
    assert sizes["ONNX folder"] == sum(p.stat().st_size for p in out.iterdir() if p.name != "dareq.json")
    assert sizes["fp32"] == pytest.approx(sizes["float weights, as stored"], rel=0.05)  # it is stored in fp32
    matrices = record["weights"]["matrices"]
    plan = json.loads((place / "q/config.json").read_text())["quantization_config"]["plan"]
    assert [m["name"] for m in matrices] == list(plan)
    assert len(record["entropies"]["values"]) == 2
    assert [s["label"] for s in record["samples"]["rows"]] == LABELS
    assert record["samples"]["prompt"] == "abc"
    assert record["samples"]["rows"][2]["ids"] == record["samples"]["rows"][1]["ids"]
    files = {f["name"]: f for f in record["origin"]["files"]}
    assert set(files) == {p.name for p in out.iterdir()}
    for name, entry in files.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == entry["sha256"]
    assert {f["name"] for f in record["origin"]["source_files"]} == {p.name for p in (place / "m").iterdir()}
    command = shlex.split(record["origin"]["command"])
    assert command[:3] == ["dareq-edge", "deploy", str(place / "m")]
    assert {"--recipe", "rtn", "--report", str(page), "--prompt", "abc"} <= set(command)
    assert "--bits" not in command
    assert record["origin"]["settings"]["bits"] == "4"
    assert not record["absent"]


def test_a_failed_parity_has_its_page(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "FP32_COMPUTE", Tolerance("fp32 compute", -1.0, "cannot be met"))
    page = place / "failed.html"
    arguments = ["deploy", place / "m", "--out", place / "no", "--tokens", place / "t.npy", *QUICK, "--report", page]
    found = run(capsys, *arguments, code=1)
    record = record_of(page)
    assert not (place / "no").exists()
    assert record["verdict"]["state"] == "FAILED"
    assert record["verdict"]["reasons"] == found["parity"]["reasons"]
    assert "was not written" in record["verdict"]["sentence"]
    assert {"model.onnx", "model.onnx.data"} <= {f["name"] for f in record["origin"]["files"]}
    text = page.read_text()
    assert text.index("FAILED</strong>") < text.index("<main>")


def test_parity(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = place / "parity.html"
    shared = ["parity", place / "o", "--tokens", place / "t.npy", "--report", page]
    found = run(capsys, *shared)
    record = record_of(page)
    assert record["scores"] == found["scores"]
    assert record["weights"] is None
    assert record["absent"]["Weights"] == "--checkpoint was not given"
    found = run(capsys, *shared, "--checkpoint", place / "q", "--model", place / "m")
    record = record_of(page)
    assert record["links"] == found["links"]
    assert record["weights"]["matrices"][0]["error"]["relative"] > 0
    assert len(record["entropies"]["values"]) == 2
    assert len(record["samples"]["rows"]) == 4
    assert record["verdict"]["state"] == "passed"


@pytest.mark.parametrize("kind", ["o", "q", "m"])
def test_eval(place: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    page = place / f"eval-{kind}.html"
    found = run(capsys, "eval", place / kind, "--tokens", place / "t.npy", "--report", page)
    record = record_of(page)
    assert record["scores"] == [found]
    assert record["verdict"]["state"] == "measured"
    assert (record["weights"] is not None) == (kind == "q")
    assert (record["entropies"] is not None) == (kind == "m")
    names = [row["label"] for row in record["sizes"]]
    assert ("ONNX folder" in names) == (kind == "o")


def test_a_packed_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, page = place / "p", place / "packed.html"
    run(capsys, "pack", place / "o", "--out", packed)
    run(capsys, "eval", packed, "--tokens", place / "t.npy", "--report", page)
    sizes = {row["label"]: row["bytes"] for row in record_of(page)["sizes"]}
    assert sizes["packed folder: download"] == sum(
        p.stat().st_size for p in packed.iterdir() if p.name != "dareq.json"
    )
    assert sizes["ONNX folder, unpacked"] == sum(p.stat().st_size for p in (place / "o").iterdir())


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantize for a comparison in this process."""
    monkeypatch.setattr(comparison, "produce", lambda order, progress: producing._fill(order, progress))


@pytest.mark.usefixtures("here")
def test_compare(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = place / "compare.html"
    arguments = ["compare", place / "m", "--recipes", "hqq@64,nf4@64", "--tokens", place / "t.npy", "--report", page]
    found = run(capsys, *arguments)
    record = record_of(page)
    assert record["comparison"] == found
    assert record["verdict"]["state"] == "measured"
    labels = [row["label"] for row in record["sizes"]]
    assert labels == ["fp32", "float model, as stored", "hqq@64/4", "nf4@64/4"]
    assert 'id="errors-blocks"' in page.read_text(encoding="utf-8")
    for row in found["rows"]:
        assert all(0 < m["relative"] < 0.2 for m in row["production"]["errors"]["matrices"])


@pytest.mark.usefixtures("here")
def test_text_of_a_comparison(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = place / "texts.html"
    shared = ["compare", place / "m", "--tokens", place / "t.npy", "--out", place / "rows"]
    shared += ["--report", page, "--keep", "--recipes"]
    run(capsys, *shared, "rtn,nf4@64", "--prompt", "abc")
    samples = record_of(page)["samples"]
    chain = record_of(place / "deploy.html")["samples"]
    assert samples["how"] == chain["how"]
    assert [row["label"] for row in samples["rows"]] == ["float model", "rtn@channel/4", "nf4@64/4"]
    assert samples["rows"][0] == chain["rows"][0] | {"label": "float model"}
    (kept,) = (p for p in (place / "rows/checkpoints").iterdir() if p.is_dir() and p.name.startswith("rtn"))
    model, stream = load_reference(kept).model, Sampling(0.8, 40).streams([np.asarray([4, 5, 6])])[0]
    ids = [4, 5, 6]
    for token in samples["rows"][1]["ids"]:
        with torch.inference_mode():
            ids.append(Sampling(0.8, 40).choose(model(torch.tensor([ids])).logits[0, -1].numpy(), stream))
        assert ids[-1] == token
    assert len(ids) == 35 or token == 2
    later = run(capsys, *shared, "rtn,mse,nf4@64", "--prompt", "abc")
    grown = record_of(page)["samples"]
    assert [row["label"] for row in grown["rows"]] == ["float model", "rtn@channel/4", "mse@channel/4", "nf4@64/4"]
    assert [row for row in grown["rows"] if "mse" not in row["label"]] == samples["rows"]
    monkeypatch.setattr(comparison, "load_reference", None)  # all is finished: no model is loaded
    assert run(capsys, *shared, "rtn,mse,nf4@64", "--prompt", "abc") == later
    assert record_of(page)["samples"] == grown
    for prompt in ("", "other"):
        run(capsys, *shared, "rtn", "--prompt", prompt)
        record = record_of(page)
        assert record["samples"] is None
        assert "no prompt" in record["absent"]["Generated text"]


@pytest.mark.parametrize(
    ("report", "sentence"),
    [
        ("r.pdf", "--report is r.pdf; name it .html"),
        ("gone/r.html", "there is no folder gone for --report r.html; create it first"),
        ("out/r.html", "lies in the folder of --out"),
        ("folder.html", "--report folder.html is a folder; name a file"),
    ],
)
@pytest.mark.parametrize("command", ["deploy", "compare"])
def test_a_page_that_cannot_be_is_refused_before_the_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    report: str,
    sentence: str,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.html").mkdir()
    more = ["--recipes", "rtn", "--tokens", "t.npy"] if command == "compare" else []
    assert main([command, "no-such-model", "--out", "out", "--report", report, *more]) == 1
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert [p.name for p in tmp_path.iterdir()] == ["folder.html"]


def test_a_failed_command_leaves_an_old_page_alone(place: Path, tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    page.write_text("as it was")
    shutil.copytree(place / "o", tmp_path / "o")
    (tmp_path / "o/model.onnx.data").write_bytes(b"broken")
    assert main(["eval", str(tmp_path / "o"), "--tokens", str(place / "t.npy"), "--report", str(page)]) == 1
    assert page.read_text() == "as it was"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o", "r.html"]
