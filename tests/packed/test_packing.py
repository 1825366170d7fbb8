from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import pytest

from dareq_edge import container
from dareq_edge.container import Container
from dareq_edge.errors import ArtifactError, DareqError, SpecError
from dareq_edge.manifest import NAME, Manifest
from dareq_edge.packed import kind_sizes, pack_folder, packing, unpack_folder
from packed_folders import content, reseal, tiny_export


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_export(tmp_path_factory.mktemp("packed") / "plain")


@pytest.fixture
def packed(plain: Path, tmp_path: Path) -> Path:
    pack_folder(plain, tmp_path / "packed")
    return tmp_path / "packed"


def test_every_file_comes_back(plain: Path, packed: Path, tmp_path: Path) -> None:
    made = unpack_folder(packed, tmp_path / "again")
    assert content(tmp_path / "again") == content(plain)
    assert made == Manifest.read(plain)


def test_the_folder_lists_what_is_in_it(plain: Path, packed: Path) -> None:
    manifest, before = Manifest.read(packed), Manifest.read(plain)
    manifest.verify(packed)
    assert set(manifest.files) == {"config.json", "model.onnx", "model.onnx.data.dqz", "dareq.json.dqz"}
    assert set(content(packed)) == {NAME, *manifest.files}
    entry = manifest.packed["model.onnx.data"]
    assert (entry.bytes, entry.sha256) == (
        before.files["model.onnx.data"].bytes,
        before.files["model.onnx.data"].sha256,
    )
    assert replace(manifest, files=before.files, packed={}) == before


def test_dareq_json_of_another_version_comes_back_too(plain: Path, tmp_path: Path) -> None:
    for name, data in content(plain).items():
        (tmp_path / "old").mkdir(exist_ok=True)
        (tmp_path / "old" / name).write_bytes(data)
    data = json.loads((plain / NAME).read_text())
    del data["pieces"], data["profile"], data["sessions"]
    (tmp_path / "old" / NAME).write_text(json.dumps(data | {"later": 7}))
    pack_folder(tmp_path / "old", tmp_path / "packed")
    unpack_folder(tmp_path / "packed", tmp_path / "again")
    assert content(tmp_path / "again") == content(tmp_path / "old")


def test_sizes_by_kind_add_up(plain: Path, packed: Path) -> None:
    manifest = Manifest.read(packed)
    kinds = kind_sizes(manifest, packed)
    assert sum(k.before for k in kinds) == sum(e.bytes for e in manifest.packed.values())
    assert sum(k.after for k in kinds) == sum(manifest.files[e.container].bytes for e in manifest.packed.values())
    codes = next(k for k in kinds if k.kind == "4-bit codes")
    matrices = [t for t in Manifest.read(plain).tensors.values() if t.bits == 4]
    assert codes.weights == 2 * codes.before == 2 * sum(t.bytes for t in matrices)
    assert codes.bits_per_weight == pytest.approx(8 * codes.after / codes.weights)


def test_progress_ends_whole_and_never_goes_back(plain: Path, tmp_path: Path) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def note(stage: str, done: int, total: int) -> None:
        seen.setdefault(stage, []).append((done, total))

    pack_folder(plain, tmp_path / "p", progress=note)
    unpack_folder(tmp_path / "p", tmp_path / "u", progress=note)
    assert set(seen) == {"packing", "unpacking"}
    for steps in seen.values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]


def test_what_cannot_be_packed_or_unpacked(plain: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SpecError, match="is packed already"):
        pack_folder(packed, out)
    with pytest.raises(SpecError, match="is not packed; use it as it is"):
        unpack_folder(plain, out)
    with pytest.raises(SpecError, match="already exists"):
        pack_folder(plain, packed)
    with pytest.raises(ArtifactError, match=f"no {NAME}"):
        pack_folder(tmp_path, out)
    assert not out.exists()


def test_a_changed_source_is_not_packed(plain: Path, tmp_path: Path) -> None:
    for name in ("model.onnx.data", "config.json"):
        for file, data in content(plain).items():
            (tmp_path / "changed").mkdir(exist_ok=True)
            (tmp_path / "changed" / file).write_bytes(data[:-1] + b"~" if file == name else data)
        with pytest.raises(ArtifactError, match=f"{name} does not match its sha256"):
            pack_folder(tmp_path / "changed", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_said_and_leaves_nothing(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packing, "encode", full)
    with pytest.raises(ArtifactError, match="no space left while writing"):
        pack_folder(plain, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["../out", "/out", "a/../../b"])
def test_names_that_lead_out_of_the_folder(packed: Path, tmp_path: Path, where: str) -> None:
    entries = json.loads((packed / NAME).read_text())["packed"]
    reseal(packed, packed=entries | {where: entries["model.onnx.data"]})
    with pytest.raises(ArtifactError, match="leads out of the folder"):
        unpack_folder(packed, tmp_path / "out")
    reseal(packed, packed=entries | {"model.onnx.data": entries["model.onnx.data"] | {"container": where}})
    with pytest.raises(ArtifactError):
        unpack_folder(packed, tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": 1 << 40},
        {"bytes": -1},
        {"bytes": "7424"},
        {"bytes": True},
        {"sha256": "0" * 63 + "1"},
        {"container": "config.json"},
        {"container": "dareq.json.dqz"},
        {"container": 3},
        {"more": 1},
    ],
    ids=str,
)
def test_records_that_do_not_fit_their_container(packed: Path, tmp_path: Path, change: dict[str, object]) -> None:
    entries = json.loads((packed / NAME).read_text())["packed"]
    reseal(packed, packed=entries | {"model.onnx.data": entries["model.onnx.data"] | change})
    with pytest.raises(ArtifactError):
        unpack_folder(packed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_container_of_other_content_is_refused(plain: Path, packed: Path, tmp_path: Path) -> None:
    """Well-formed, of the right size and listed with its sha256, but not the file that dareq.json speaks of."""
    other = tmp_path / "other"
    other.write_bytes(bytes((plain / "model.onnx.data").stat().st_size))
    container.encode(other, [], packed / "model.onnx.data.dqz")
    manifest = Manifest.read(packed)
    manifest.with_files(packed).write(packed)
    with pytest.raises(ArtifactError, match="another file"):
        unpack_folder(packed, tmp_path / "out")
    claimed = Container.open(packed / "model.onnx.data.dqz")
    entry = replace(manifest.packed["model.onnx.data"], sha256=claimed.sha256)
    replace(manifest, packed=manifest.packed | {"model.onnx.data": entry}).with_files(packed).write(packed)
    with pytest.raises(DareqError, match=r"model\.onnx\.data does not match its sha256"):
        unpack_folder(packed, tmp_path / "out")
