"""Packed folders in the runtime: the same numbers, and refusals before a session is opened."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from dareq_edge.container import Container
from dareq_edge.errors import ArtifactError
from dareq_edge.manifest import NAME, Manifest
from dareq_edge.packed import pack_folder
from dareq_runtime import load, loading, packed
from dareq_runtime.initializers import external_tensors
from dareq_runtime.packed import decode_weights
from dareq_runtime.session import Compute
from packed_folders import content, reseal, tiny_export
from tiny_decoder import Shape

IDS = np.arange(4, 24)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder and its packed copy."""
    place = tmp_path_factory.mktemp("packed")
    tiny_export(place / "plain", Shape())
    pack_folder(place / "plain", place / "packed")
    return place / "plain", place / "packed"


@pytest.fixture
def copy(folders: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders[1], tmp_path / "copy"))


@pytest.mark.parametrize("compute", ["int8", "fp32"])
def test_the_same_logits_to_the_bit(folders: tuple[Path, Path], compute: Compute) -> None:
    plain, packed = (load(folder, compute=compute, threads=1).logits(IDS) for folder in folders)
    assert np.array_equal(plain, packed)
    assert len(np.unique(plain)) > 100


def test_threads_can_be_measured(folders: tuple[Path, Path]) -> None:
    model = load(folders[1], threads="measured")
    assert model.generate([5, 6], max_new_tokens=3).ids == load(folders[0]).generate([5, 6], max_new_tokens=3).ids


def test_nothing_is_written(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(copy)
    copy.chmod(0o500)
    load(copy)
    copy.chmod(0o700)
    assert content(copy) == before


def test_decoded_bytes_are_those_of_the_file(folders: tuple[Path, Path]) -> None:
    weights = decode_weights(folders[1], Manifest.read(folders[1]))
    assert list(weights.files) == ["model.onnx.data"]
    assert weights.files["model.onnx.data"].tobytes() == (folders[0] / "model.onnx.data").read_bytes()


def test_external_tensors_are_what_onnx_says(folders: tuple[Path, Path]) -> None:
    found = {t.name: t for t in external_tensors((folders[0] / "model.onnx").read_bytes())}
    graph = onnx.load(folders[0] / "model.onnx", load_external_data=False).graph
    wanted = {i.name: i for i in graph.initializer if i.external_data}
    assert set(found) == set(wanted)
    for name, tensor in found.items():
        entries = {e.key: e.value for e in wanted[name].external_data}
        assert tensor.shape == tuple(wanted[name].dims)
        assert tensor.dtype == onnx.helper.tensor_dtype_to_np_dtype(wanted[name].data_type)
        assert (tensor.location, tensor.offset, tensor.nbytes) == (
            entries["location"],
            int(entries["offset"]),
            int(entries["length"]),
        )


def refuse(folder: Path, match: str, monkeypatch: pytest.MonkeyPatch, *, verify: bool = True) -> None:
    def opened(*_: object, **__: object) -> None:
        pytest.fail("a session was opened")

    with monkeypatch.context() as patch, pytest.raises(ArtifactError, match=match) as caught:
        patch.setattr(loading, "open_graph", opened)
        load(folder, verify=verify)
    assert "\n" not in str(caught.value)


def test_a_damaged_container(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy / "model.onnx.data.dqz"
    data = bytearray(path.read_bytes())
    data[-100] ^= 4
    path.write_bytes(data)
    refuse(copy, "model.onnx.data.dqz does not match its sha256", monkeypatch)
    refuse(copy, "model.onnx.data.dqz is damaged in frame", monkeypatch, verify=False)


def test_a_missing_container(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "model.onnx.data.dqz").unlink()
    refuse(copy, "model.onnx.data.dqz is missing", monkeypatch)


def test_a_manifest_without_its_seal(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.loads((copy / NAME).read_text())
    del data["sha256"]
    (copy / NAME).write_text(json.dumps(data))
    refuse(copy, "does not match the sha256 it carries", monkeypatch)


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def reserved(size: int, _: Path) -> None:
        pytest.fail(f"{size} bytes were reserved")

    monkeypatch.setattr(packed, "_room", reserved)


@pytest.mark.parametrize("change", [{"bytes": 1 << 40}, {"bytes": 0}, {"sha256": "ab" * 32}], ids=str)
def test_sizes_are_compared_before_memory_is_reserved(
    copy: Path, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = json.loads((copy / NAME).read_text())["packed"]
    reseal(copy, packed=entries | {"model.onnx.data": entries["model.onnx.data"] | change})
    no_room(monkeypatch)
    refuse(copy, "another file than dareq.json says", monkeypatch)


def test_a_small_container_cannot_claim_a_terabyte(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that agrees with dareq.json: every frame is at most a MiB, and has an entry in a table."""
    path = copy / "model.onnx.data.dqz"
    header = Container.open(path).header
    payloads = path.read_bytes()[header.size :]
    path.write_bytes(replace(header, nbytes=1 << 40).to_bytes() + payloads)
    manifest = Manifest.read(copy)
    entry = replace(manifest.packed["model.onnx.data"], bytes=1 << 40)
    manifest = replace(manifest, packed=manifest.packed | {"model.onnx.data": entry}).with_files(copy)
    manifest.write(copy)
    no_room(monkeypatch)
    refuse(copy, "frames for another length", monkeypatch)


def test_a_system_that_has_no_room(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(packed.mmap, "mmap", full)
    refuse(copy, "no memory for the .* bytes", monkeypatch)


def test_a_graph_that_wants_more_than_there_is(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = onnx.load(copy / "model.onnx", load_external_data=False)
    external = next(i for i in model.graph.initializer if i.external_data)
    next(e for e in external.external_data if e.key == "offset").value = str(1 << 40)
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    Manifest.read(copy).with_files(copy).write(copy)
    no_room(monkeypatch)
    refuse(copy, "which the folder does not hold", monkeypatch)


@pytest.mark.parametrize("keep", [0, 1, 40, 400])
def test_what_is_no_graph(keep: int, folders: tuple[Path, Path]) -> None:
    whole = (folders[0] / "model.onnx").read_bytes()
    try:
        found = external_tensors(b"\x3a" + whole[:keep])
    except ArtifactError as error:
        assert "the graph cannot be read" in str(error)
    else:
        assert found == []
