"""dareq-edge compare, from end to end on tiny models; most quantize in this process, which is faster."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from dareq_edge import recipes
from dareq_edge.cli import comparison, main
from dareq_edge.comparison import produce as producing
from dareq_edge.comparison.records import Production
from dareq_edge.progress import Progress, silent
from dareq_edge.recipes import Change, Source
from dareq_edge.recipes._matrix import MatrixRecipe
from dareq_edge.reference import load_reference
from tiny_models import tiny_opt
from tolerances import HALF_KL, NLL_FLOAT64

MINI = Path(__file__).parents[1] / "examples/models/opt-mini"


@dataclass(frozen=True, slots=True)
class Noise(MatrixRecipe):
    """Rounds a weight that noise was added to."""

    method: str | None = "rtn"
    seed: int = 0
    tier: str = "self"
    calibration: str | None = None

    def changes(self, source: Source, progress: Progress) -> Iterator[Change]:
        generator = torch.Generator().manual_seed(self.seed)
        for target, value in MatrixRecipe.changes(self, source, progress):
            assert not isinstance(value, torch.Tensor)
            wrong = torch.randn(value.scales.shape, generator=generator).numpy()
            yield target, replace(value, scales=(value.scales * (1 + 0.02 * wrong)).astype(np.float32))

    @property
    def random(self) -> bool:
        return self.tier == "self"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a float model ``m`` and token ids ``a.npy`` and ``b.npy``, which is the working folder."""
    tiny_opt(tmp_path / "m")
    for i, name in enumerate("ab"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(i).integers(3, 96, 400))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[producing.Order]:
    """Quantize in this process; the orders it got."""
    got: list[producing.Order] = []

    def here(order: producing.Order, progress: Progress = silent) -> Production:
        got.append(order)
        return producing._fill(order, progress)

    monkeypatch.setattr(comparison, "produce", here)
    return got


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe "noise" that draws at random."""
    real: Callable[..., Any] = recipes.load

    def load(package: str, name: str) -> object:
        return type("Module", (), {"RECIPE": Noise}) if name == "noise" else real(package, name)

    monkeypatch.setattr("dareq_edge.recipes.load", load)
    monkeypatch.setattr("dareq_edge.plugins.load", load)
    monkeypatch.setattr("dareq_edge.recipes.names", lambda: ["noise", "rtn"])


def run(capsys: pytest.CaptureFixture[str], names: str, *more: object, code: int = 0) -> dict[str, Any]:
    """The JSON record of ``compare m --recipes names``, on a.npy unless ``more`` names a text."""
    capsys.readouterr()
    text = [] if {"--tokens", "--text"} & set(more) else ["--tokens", "a.npy"]
    assert main(["compare", "m", "--recipes", names, "--json", *text, *map(str, more)]) == code
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_from_end_to_end_in_processes_of_their_own(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "rtn@32,nf4@64,nf4", "--plot", "curve.svg", code=1)
    rtn, nf4, broken = found["rows"]
    assert (rtn["recipe"], rtn["storable"], rtn["failed"]) == ("rtn@32/4", True, None)
    assert (nf4["recipe"], nf4["storable"]) == ("nf4@64/4", False)
    assert "use 4 bits and group 64" in broken["failed"]
    assert broken["runs"] == []
    assert (rtn["production"]["bits_per_weight"], nf4["production"]["bits_per_weight"]) == (5.0, 4.5)
    assert 50e6 < rtn["production"]["peak_bytes"] < 2e9
    assert found["window"] == 128
    assert found["reference"]["scores"]["a"]["tokens"] == 3 * 127
    drawing = ElementTree.parse(place / "curve.svg").getroot()
    assert drawing.tag.endswith("svg")
    assert sorted(p.name for p in place.iterdir()) == ["a.npy", "b.npy", "curve.svg", "m"]


@pytest.mark.usefixtures("orders")
def test_settings_of_one_row(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(capsys, "dareq:weights,dareq:weights+scale_search=false,rtn")["rows"]
    searched, plain, rtn = [row["runs"][0]["scores"]["a"]["nll"] for row in rows]
    assert plain == rtn != searched


@pytest.mark.usefixtures("orders")
def test_scores_are_those_of_parity(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dareq_runtime.parity import chain, compare
    from dareq_runtime.tokens import read_tokens
    from dareq_runtime.windows import make_protocol

    row = run(capsys, "rtn@32/3", "--window", 64, "--out", "rows", "--keep")["rows"][0]
    (kept,) = [p for p in (place / "rows" / "checkpoints").iterdir() if p.is_dir()]
    one, other = load_reference(place / "m"), load_reference(kept)
    scorers, links = chain(original=one, quantized=other)
    report = compare(scorers, links, read_tokens(tokens=place / "a.npy"), make_protocol("gptq", window=64))
    link, score = report.links[0], row["runs"][0]["scores"]["a"]
    assert score["nll"] == pytest.approx(report.scores[1].nll, rel=1e-6)  # chunks of another length
    assert score["stderr_nll"] == pytest.approx(report.scores[1].stderr_nll, rel=1e-5)
    assert score["delta_ppl"] == pytest.approx(link.delta_ppl, rel=1e-4)
    assert score["delta_stderr"] == pytest.approx(link.delta_ppl_stderr, rel=1e-4)
    assert score["kl"] == pytest.approx(link.kl_mean, rel=HALF_KL)
    assert score["top1"] == link.top1_agreement
    assert row["production"]["weight_bytes"] == sum(
        t["bytes"] for t in json.loads((kept / "dareq.json").read_text())["tensors"].values()
    )


@pytest.mark.usefixtures("orders")
def test_several_texts_are_scored_apart_and_together(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        np.save(place / f"{name}.npy", np.load(place / f"{name}.npy")[: 384 - 128 * (name == "b")])
    np.save(place / "ab.npy", np.concatenate([np.load(place / f"{n}.npy") for n in "ab"]))
    together = run(capsys, "rtn", "--tokens", "ab.npy")
    from dareq_edge.cli.comparison import Request, compare_recipes
    from dareq_edge.cli.evaluation import DataChoice
    from dareq_edge.cli.recipes import RecipeChoice
    from dareq_edge.cli.subjects import make_subjects
    from dareq_edge.comparison.variants import parse_variants
    from dareq_edge.plan import QuantOptions

    variants = parse_variants("rtn", group_size=None, bits=4)
    subjects = make_subjects(variants, QuantOptions(scale_dtype="bfloat16"), RecipeChoice(""), 3)
    texts = [DataChoice(tokens=place / f"{name}.npy") for name in "ab"]
    found = compare_recipes(Request(str(place / "m"), None, subjects, texts))
    assert list(found.reference) == ["a", "b", "all"]
    scores = found.rows[0].runs[0].scores
    assert {label: s.tokens for label, s in scores.items()} == {"a": 3 * 127, "b": 2 * 127, "all": 5 * 127}
    mean = (3 * scores["a"].nll + 2 * scores["b"].nll) / 5
    assert abs(scores["all"].nll - mean) < NLL_FLOAT64
    assert scores["all"].to_json() == together["rows"][0]["runs"][0]["scores"]["ab"]


@pytest.mark.usefixtures("noise", "orders")
def test_seeds(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "noise,rtn,noise:weights", "--seeds", 3, "--seed", 5)
    noise, rtn, fixed = found["rows"]
    assert [r["seed"] for r in noise["runs"]] == [5, 6, 7]
    assert [r["seed"] for r in rtn["runs"]] == [None]
    assert [r["seed"] for r in fixed["runs"]] == [None]  # says itself that nothing is random
    ppl = [r["scores"]["a"]["ppl"] for r in noise["runs"]]
    assert len(set(ppl)) == 3
    assert noise["mean"]["a"]["ppl"] == pytest.approx(np.mean(ppl))
    assert noise["mean"]["a"]["sd_ppl"] == pytest.approx(np.std(ppl, ddof=1))
    assert rtn["mean"]["a"]["sd_ppl"] is None
    assert (
        fixed["runs"][0]["scores"]["a"]["ppl"]
        == run(capsys, "noise:weights", "--seed", 5)["rows"][0]["runs"][0]["scores"]["a"]["ppl"]
    )
    assert main(["compare", "m", "--recipes", "noise,rtn", "--tokens", "a.npy"]) == 0
    assert "± seeds" in capsys.readouterr().out


def test_an_interrupted_comparison_goes_on(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    orders: list[producing.Order],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = comparison.score_against

    def interrupted(*arguments: Any) -> Any:
        if len(orders) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(comparison, "score_against", interrupted)
    arguments = ["compare", "m", "--recipes", "rtn,rtn@32,hqq", "--tokens", "a.npy", "--out", "rows"]
    assert main(arguments) == 130
    assert sorted(p.name for p in (place / "rows").iterdir()) == ["checkpoints", "rows.json"]
    monkeypatch.setattr(comparison, "score_against", real)
    found = run(capsys, "rtn,rtn@32,hqq", "--out", "rows")
    labels = [f"{'hqq' if not o.storable else 'rtn'}@{o.options.group_size}" for o in orders]
    assert labels == ["rtn@None", "rtn@32", "hqq@None"]  # the second was quantized already and only had to be scored
    assert [p.name for p in (place / "rows").iterdir()] == ["rows.json"]

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(comparison, "load_reference", never)
    assert run(capsys, "rtn,rtn@32,hqq", "--out", "rows") == found
    assert [r["recipe"] for r in run(capsys, "hqq,rtn", "--out", "rows")["rows"]] == [
        "hqq@channel/4",
        "rtn@channel/4",
    ]
    assert len(orders) == 3
    monkeypatch.undo()


@pytest.mark.usefixtures("orders")
def test_rows_of_older_versions_are_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = run(capsys, "rtn,nf4@64", "--out", "rows")["rows"]
    assert new[0]["production"]["coded_bits_per_weight"] > 0
    assert new[1]["production"]["coded_bytes"] is None  # no checkpoint of ours holds it
    record = json.loads((place / "rows" / "rows.json").read_text())
    for old in record["runs"].values():
        del old["production"]["coded_bytes"], old["production"]["coded_bits_per_weight"], old["production"]["errors"]
    (place / "rows" / "rows.json").write_text(json.dumps(record))
    rtn = run(capsys, "rtn,nf4@64", "--out", "rows", "--plot", "curve.svg", "--plot-coded")["rows"][0]
    assert rtn["production"]["coded_bits_per_weight"] is None
    assert rtn["production"]["errors"] is None
    assert rtn["mean"] == new[0]["mean"]
    assert "matrices coded" in (place / "curve.svg").read_text()


def test_other_tokens_or_another_model_are_another_row(
    place: Path, capsys: pytest.CaptureFixture[str], orders: list[producing.Order]
) -> None:
    run(capsys, "rtn", "--out", "rows")
    run(capsys, "rtn", "--out", "rows", "--tokens", "b.npy")
    run(capsys, "rtn", "--out", "rows", "--window", 64)
    run(capsys, "rtn", "--out", "rows", "--bits", 3)
    tiny_opt(place / "m", seed=1)
    run(capsys, "rtn", "--out", "rows")
    assert len(orders) == 5
    run(capsys, "rtn", "--out", "rows")
    assert len(orders) == 5
    run(capsys, "rtn", "--out", "rows", "--overwrite")
    assert len(orders) == 6


def test_a_damaged_ledger_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "rows").mkdir()
    (place / "rows" / "rows.json").write_text('{"format": 1, "runs": {"x": {}}, "references": {}}')
    assert main(["compare", "m", "--recipes", "rtn", "--tokens", "a.npy", "--out", "rows"]) == 1
    assert "choose another --out or --overwrite" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["--recipes", "rtm"], "unknown recipe 'rtm'; did you mean 'rtn'?", 1),
        (["--recipes", "hq"], "did you mean 'hqq'?", 1),
        (["--recipes", "hqq:self"], "hqq has no tiers", 1),
        (["--recipes", "hqq+power=2@64"], "hqq has no tiers or settings; write hqq@64/4", 1),
        (["--recipes", "dareq+descend=2"], "recipe 'dareq' has no setting 'descend'", 1),
        (["--recipes", "dareq+descent=two"], "descent is 'two'", 1),
        (["--recipes", "rtn:self"], "recipe 'rtn' has no setting 'tier'", 1),
        (["--recipes", "gptq"], "recipe 'gptq' needs --calibration FILE", 1),
        (["--recipes", "gptq", "--calibration", "no.txt"], "there is no calibration file no.txt", 1),
        (["--recipes", "rtn", "--samples", "3"], "--samples was given but no recipe of this comparison", 1),
        (["--recipes", "rtn", "--window", "512"], "context is 128 tokens", 1),
        (["--recipes", "rtn", "--max-tokens", "100"], "less than one window of 128", 1),
        (["--recipes", "rtn", "--text", "t.txt"], "has no tokenizer", 1),
        (["--recipes", "rtn", "--keep"], "--out, which is not given", 1),
        (["--recipes", "rtn", "--plot", "x.pdf"], "name it .png or .svg", 1),
        (["--recipes", "rtn", "--plot-coded"], "the plot of --plot, which is not given", 1),
        (["--recipes", "rtn", "--plot", "no/x.png"], "there is no folder no", 1),
        (["--recipes", "rtn", "--seeds", "0"], "Invalid value for '--seeds'", 2),
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

    monkeypatch.setattr(comparison, "load_reference", never)
    monkeypatch.setattr(comparison, "produce", never)
    assert main(["compare", "m", "--tokens", "a.npy", *arguments]) == code
    captured = capsys.readouterr()
    assert words in " ".join(captured.err.split())
    assert "Traceback" not in captured.err
    assert sorted(p.name for p in place.iterdir()) == ["a.npy", "b.npy", "m"]


def test_there_must_be_a_text(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "m", "--recipes", "rtn"]) == 1
    assert "give --text FILE or --tokens FILE.npy" in capsys.readouterr().err


@pytest.mark.usefixtures("orders")
def test_the_embedded_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not (MINI / "model.safetensors").is_file():
        pytest.skip("the embedded model is not in this checkout")
    text = Path(comparison.__file__).parents[1] / "data" / "inaugural-addresses.txt"
    (tmp_path / "all.txt").write_text(text.read_text())
    arguments = ["compare", str(MINI), "--recipes", "rtn,rtn@32,hqq@64", "--max-tokens", "2048", "--text"]
    assert main([*arguments, str(tmp_path / "all.txt")]) == 1
    assert "rename a file" in capsys.readouterr().err
    plot = tmp_path / "curve.png"
    assert (
        main([*arguments, str(text), "--text", str(MINI / "README.md"), "--max-tokens", "512", "--plot", str(plot)])
        == 0
    )
    shown = capsys.readouterr().out
    named = [line.split()[0] for line in shown.splitlines() if "/4 " in line]
    assert named == 2 * ["rtn@channel/4", "rtn@32/4", "hqq@64/4"]  # scores, then sizes
    assert "failed" not in shown
    assert plot.read_bytes().startswith(b"\x89PNG")
