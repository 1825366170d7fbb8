"""transformers.js' file names: the same numbers, one copy of the weights, and a manifest that holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from dareq_edge.cli import main
from dareq_edge.errors import ArtifactError, SpecError
from dareq_edge.hf import DareqConfig
from dareq_edge.manifest import Manifest
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from dareq_export.relayout import for_transformers_js
from tiny_models import tiny_opt


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny OPT; its head and its embedding share one table."""
    root = tmp_path_factory.mktemp("relayout")
    quantize_checkpoint(tiny_opt(root / "m"), root / "q", DareqConfig(bits=4, table_bits=8))
    export_onnx(root / "q", root / "out")
    return root / "out"


def logits(graph: Path) -> np.ndarray:
    session = ort.InferenceSession(graph)
    past = {
        i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32)
        for i in session.get_inputs()
        if i.name.startswith("past")
    }
    ids = np.array([[2, 17, 40]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.array([[0, 1, 2]])}
    return np.asarray(session.run(["logits"], feeds | past)[0])


def test_same_numbers_under_the_other_names(exported: Path, tmp_path: Path) -> None:
    before = {p.name: p.read_bytes() for p in exported.iterdir()}
    manifest = for_transformers_js(exported, tmp_path / "js")
    assert {p.name: p.read_bytes() for p in exported.iterdir()} == before
    assert sorted(p.name for p in (tmp_path / "js/onnx").iterdir()) == ["model_q4.onnx", "model_q4.onnx_data"]
    np.testing.assert_array_equal(logits(tmp_path / "js/onnx/model_q4.onnx"), logits(exported / "model.onnx"))
    assert manifest == Manifest.read(tmp_path / "js")
    assert manifest.graph == "onnx/model_q4.onnx"
    assert {t.file for t in manifest.tensors.values()} == {"onnx/model_q4.onnx_data"}
    manifest.verify(tmp_path / "js")


def test_what_the_clients_read(exported: Path, tmp_path: Path) -> None:
    for_transformers_js(exported, tmp_path / "js")
    config = json.loads((tmp_path / "js/config.json").read_text())
    described = config.pop("transformers.js_config")
    assert described == {"dtype": "q4", "use_external_data_format": {"model_q4.onnx": 1}}
    assert config == json.loads((exported / "config.json").read_text())
    genai = json.loads((tmp_path / "js/genai_config.json").read_text())
    assert genai["model"]["decoder"]["filename"] == "onnx/model_q4.onnx"


def test_weights_are_one_file_with_two_names_and_the_shared_table_stays_shared(
    exported: Path, tmp_path: Path
) -> None:
    for_transformers_js(exported, tmp_path / "js")
    assert (tmp_path / "js/onnx/model_q4.onnx_data").samefile(exported / "model.onnx.data")
    places = [
        {x.key: x.value for x in t.external_data}
        for t in onnx.load(tmp_path / "js/onnx/model_q4.onnx", load_external_data=False).graph.initializer
        if t.external_data
    ]
    assert {p["location"] for p in places} == {"model_q4.onnx_data"}
    spans = [(p["offset"], p["length"]) for p in places]
    assert len(set(spans)) < len(spans)


def test_refusals(exported: Path, tmp_path: Path) -> None:
    for_transformers_js(exported, tmp_path / "js")
    with pytest.raises(SpecError, match="already; use it as it is"):
        for_transformers_js(tmp_path / "js", tmp_path / "again")
    with pytest.raises(SpecError, match="already exists"):
        for_transformers_js(exported, tmp_path / "js")
    with pytest.raises(ArtifactError, match=r"no dareq\.json"):
        for_transformers_js(tmp_path, tmp_path / "again")
    with pytest.raises(SpecError, match="holds a checkpoint"):
        for_transformers_js(exported.parent / "q", tmp_path / "again")


def test_a_changed_file_is_refused(exported: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in exported.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "config.json").write_text((copy / "config.json").read_text().replace("96", "97"))
    with pytest.raises(ArtifactError, match=r"does not match its sha256"):
        for_transformers_js(copy, tmp_path / "js")
    assert not (tmp_path / "js").exists()


def test_command_line(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layout", str(exported), "--out", str(tmp_path / "js"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["graph"] == "onnx/model_q4.onnx"
