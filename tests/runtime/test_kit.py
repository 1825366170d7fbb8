"""bundle and validate.py: a kit judges its device by the numbers the runtime itself would give."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tolerances
from dareq_edge.errors import ArtifactError, DataError, SpecError
from dareq_edge.manifest import Manifest
from dareq_runtime import load
from dareq_runtime.kit.layout import COMPUTES, TOP, Kit
from dareq_runtime.scoring import log_softmax, predictions, score, token_nll
from dareq_runtime.tokens import TokenSet
from dareq_runtime.windows import make_protocol
from kits import bundle, perturb, random_tokens, run_validate
from tiny_decoder import Shape, TinyDecoder

LINES = TokenSet(tuple(random_tokens(n, seed=n).sequences[0] for n in (2, 30, 17, 48, 3, 60, 1, 9)), "lines", "lines")
CASES: dict[str, tuple[TokenSet, dict[str, Any]]] = {
    "gptq": (random_tokens(500), {"window": 40}),
    "strided": (random_tokens(200), {"window": 40, "stride": 15}),
    "lines": (LINES, {}),
}


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, dict[str, Any]]:
    """Protocol, kit, and what validate.py found with it."""
    root = tmp_path_factory.mktemp("kit")
    tokens, options = CASES[request.param]
    bundle(tiny_folder, root / "kit", tokens, request.param, **options)
    done = run_validate(root / "kit", root, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "PASSED" in done.stdout
    return request.param, root / "kit", json.loads((root / "result.json").read_text())


@pytest.fixture
def kit(tiny_folder: Path, tmp_path: Path) -> Path:
    bundle(tiny_folder, tmp_path / "kit", random_tokens(500), window=40)
    return tmp_path / "kit"


@pytest.mark.parametrize("compute", COMPUTES)
def test_the_device_finds_what_the_runtime_finds(
    case: tuple[str, Path, dict[str, Any]], tiny_folder: Path, compute: Any
) -> None:
    name, _, result = case
    tokens, options = CASES[name]
    model = load(tiny_folder, compute=compute, threads=1)
    protocol = make_protocol(name, **options).resolved(model.context_length)
    found = result["computes"][compute]
    report = score(model, tokens, protocol, chunk=16)
    assert found["ppl"] == pytest.approx(report.ppl, rel=tolerances.KIT)
    assert found["stderr"] == pytest.approx(report.stderr, rel=tolerances.KIT)
    assert found["tokens"] == report.tokens
    windows = protocol.windows(tokens)
    losses = [token_nll(rows[0], targets) for w in windows for rows, targets in predictions([model], w, 16)]
    assert np.abs(np.array(found["nll"]) - np.concatenate(losses)).max() < tolerances.KIT
    assert result["counts"] == [w.predicted for w in windows]
    assert found["top1_agreement"] == 1
    assert 0 <= found["kl_mean"] <= found["kl_p99"] < tolerances.KIT


def test_the_result_says_where_it_comes_from(case: tuple[str, Path, dict[str, Any]]) -> None:
    _, kit, result = case
    record = json.loads((kit / "kit.json").read_text())
    assert result["model"] == record["model"]
    assert (kit / "kit.sha256").read_text() == f"{result['kit']}  kit.json\n"
    assert result["device"]["onnxruntime"] in record["references"]["int8"]["environment"]
    assert result["device"]["cpu"]
    assert result["peak_memory_mb"] > 10
    assert result["passed"] is True
    assert result["reasons"] == []
    for compute in COMPUTES:
        found = result["computes"][compute]
        assert (
            min(found[key] for key in ("prefill_tokens_per_s", "decode_tokens_per_s", "load_s", "peak_memory_mb")) > 0
        )
        assert found["reference_nll"] == np.load(kit / f"reference/{compute}.nll.npy").tolist()


def test_the_host_s_references_are_its_predictions(case: tuple[str, Path, dict[str, Any]], fp32: Any) -> None:
    name, kit, _ = case
    tokens, options = CASES[name]
    record = Kit.from_json(json.loads((kit / "kit.json").read_text()), "kit.json")
    ids = np.load(kit / "tokens.npy")
    top, logp = np.load(kit / "reference/fp32.top.npy"), np.load(kit / "reference/fp32.logp.npy")
    assert (top.dtype, logp.dtype, ids.dtype) == (np.int32, np.float32, np.int64)
    at = 0
    for window, (offset, length, first) in zip(
        make_protocol(name, **options).resolved(48).windows(tokens), record.windows, strict=True
    ):
        assert np.array_equal(ids[offset : offset + length], window.ids)
        expected = log_softmax(fp32.logits(window.ids))[first - 1 : -1]
        rows = slice(at, at + len(expected))
        order = np.argsort(-expected, axis=1, kind="stable")[:, :TOP]
        assert np.abs(np.take_along_axis(expected, top[rows].astype(int), 1) - logp[rows]).max() < tolerances.KIT
        assert np.abs(np.take_along_axis(expected, order, 1) - logp[rows]).max() < tolerances.KIT
        assert np.array_equal(top[rows, 0], expected.argmax(1))
        at += len(expected)
    assert at == len(top)


def test_the_exported_folder_travels_as_it_is(kit: Path, tiny_folder: Path) -> None:
    record = json.loads((kit / "kit.json").read_text())
    assert set(record["files"]) == {p.relative_to(kit).as_posix() for p in kit.rglob("*") if p.is_file()} - {
        "kit.json",
        "kit.sha256",
    }
    Manifest.read(kit / "model").verify(kit / "model")
    for path in tiny_folder.iterdir():
        assert (kit / "model" / path.name).read_bytes() == path.read_bytes()
    assert load(kit / "model").vocab_size == 96


@pytest.mark.parametrize(("wanted", "windows"), [(1, 1), (39, 1), (40, 2), (100, 3), (10**6, 12)])
def test_a_prefix_of_the_windows_can_be_judged(kit: Path, tmp_path: Path, wanted: int, windows: int) -> None:
    done = run_validate(kit, tmp_path, "--compute", "int8", "--tokens", wanted, "--out", tmp_path / "few.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "few.json").read_text())
    assert result["counts"] == [39] * windows
    assert list(result["computes"]) == ["int8"]
    assert len(result["computes"]["int8"]["nll"]) == 39 * windows
    assert result["computes"]["int8"]["delta_ppl"] == pytest.approx(0, abs=tolerances.KIT)


def test_a_device_that_differs_fails(kit: Path, tmp_path: Path) -> None:
    perturb(kit, "int8", 0.02)
    perturb(kit, "fp32", 0.00005)
    done = run_validate(kit, tmp_path)
    assert done.returncode == 1
    assert "FAILED: int8 compute: perplexity differs by +2.0201%" in done.stdout
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["passed"] is False
    assert [result["computes"][c]["passed"] for c in ("int8", "fp32")] == [False, True]
    assert result["computes"]["fp32"]["delta_ppl"] == pytest.approx(5e-5, rel=0.01)
    assert len(result["reasons"]) == 1


def test_losses_that_are_not_finite_fail(tiny_folder: Path, tmp_path: Path) -> None:
    bundle(tiny_folder, tmp_path / "kit", random_tokens(100), window=40)
    path = tmp_path / "kit/reference/int8.nll.npy"
    np.save(path, np.load(path) * np.nan)
    perturb(tmp_path / "kit", "fp32", 0)
    done = run_validate(tmp_path / "kit", tmp_path)
    assert done.returncode == 1
    result = json.loads((tmp_path / "result.json").read_text(), parse_constant=pytest.fail)
    assert result["computes"]["int8"]["passed"] is False
    assert result["computes"]["int8"]["delta_ppl"] is None


def test_a_zip_unpacks_itself_and_runs(tiny_folder: Path, tmp_path: Path) -> None:
    written = bundle(tiny_folder, tmp_path / "carried.zip", random_tokens(100), window=40)
    again = bundle(tiny_folder, tmp_path / "again" / "carried.zip", random_tokens(100), window=40)
    assert written.digest == again.digest
    assert (tmp_path / "carried.zip").read_bytes() == (tmp_path / "again/carried.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "carried.zip") as archive:
        assert archive.testzip() is None
        assert {name.split("/")[0] for name in archive.namelist()} == {"__main__.py", "carried"}
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
    shutil.move(tmp_path / "carried.zip", tmp_path / "renamed.zip")
    for told in ("unpacking", ""):
        done = run_zip(tmp_path / "renamed.zip", tmp_path)
        assert done.returncode == 0, done.stderr
        assert told in done.stderr
        assert json.loads((tmp_path / "result.json").read_text())["kit"] == written.digest
    (tmp_path / "carried/kit.json").write_text("{}")
    assert run_zip(tmp_path / "renamed.zip", tmp_path).returncode == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "carried", "renamed.zip", "result.json"]


def run_zip(archive: Path, cwd: Path) -> Any:
    import subprocess

    command = [sys.executable, "-I", str(archive), "--compute", "int8"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_kit_appears_whole_or_not_at_all(tiny_folder: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "kit", tmp_path / "kit.zip"):
        with pytest.raises(DataError, match="token id 96"):
            bundle(tiny_folder, out, TokenSet((np.full(60, 96),), "ids"))
        assert list(tmp_path.iterdir()) == []
        bundle(tiny_folder, out, random_tokens(100))
        with pytest.raises(SpecError, match="already exists"):
            bundle(tiny_folder, out, random_tokens(100))
        shutil.rmtree(out) if out.is_dir() else out.unlink()


def test_a_changed_folder_is_not_bundled(tiny_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    content = bytearray((copy / "model.onnx.data").read_bytes())
    content[7] ^= 1
    (copy / "model.onnx.data").write_bytes(content)
    with pytest.raises(ArtifactError, match="does not match its sha256"):
        bundle(copy, tmp_path / "kit", random_tokens(100))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy"]


def test_fewer_tokens_than_k_in_the_vocabulary(tmp_path: Path) -> None:
    folder = TinyDecoder(Shape(vocab=20)).write(tmp_path / "small")
    bundle(folder, tmp_path / "kit", random_tokens(100, vocab=20), window=40)
    assert np.load(tmp_path / "kit/reference/int8.top.npy").shape == (78, 20)
    assert run_validate(tmp_path / "kit", tmp_path).returncode == 0
