"""Packing what quantize and export really write: every profile, several data files, a checkpoint; bytes and bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dareq_runtime
from dareq_edge.hf import DareqConfig
from dareq_edge.manifest import NAME, Manifest
from dareq_edge.packed import kind_sizes, pack_folder, unpack_folder
from dareq_edge.quantize import quantize_checkpoint
from dareq_export import export_onnx
from dareq_export.profiles import PROFILES, Profile
from fast import fast
from packed_folders import content
from tiny_models import tiny_opt

IDS = np.arange(4, 40)


@pytest.fixture(scope="module", params=[4, 8], ids=["4 bits", "8 bits"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("packed")
    tiny_opt(root / "m", max_position_embeddings=64)
    options = DareqConfig(bits=request.param, table_bits=8, method="rtn", skip=("*.0.fc1",))
    quantize_checkpoint(root / "m", root / "q", options)
    return root / "q"


def check_round_trip(folder: Path, place: Path) -> Path:
    """Pack a folder, unpack it and compare; returns the packed folder."""
    pack_folder(folder, place / "packed")
    unpack_folder(place / "packed", place / "again")
    assert content(place / "again") == content(folder)
    manifest = Manifest.read(place / "packed")
    data = {t.file for t in Manifest.read(folder).tensors.values()}
    assert set(manifest.packed) == {NAME, *data}
    assert not any((place / "packed" / name).exists() for name in data)
    return place / "packed"


@pytest.mark.parametrize("profile", fast(["native", "portable", "web"], "native", "web"))
@pytest.mark.parametrize("compute", fast(["int8", "fp32"], "int8"))
def test_every_profile_runs_packed_to_the_bit(checkpoint: Path, tmp_path: Path, profile: str, compute: str) -> None:
    export_onnx(checkpoint, tmp_path / "onnx", profile=profile)
    packed = check_round_trip(tmp_path / "onnx", tmp_path)
    expected = dareq_runtime.load(tmp_path / "onnx", compute=compute, threads=1).logits(IDS)  # type: ignore[arg-type]
    found = dareq_runtime.load(packed, compute=compute, threads=1).logits(IDS)  # type: ignore[arg-type]
    assert np.array_equal(found, expected)


def test_several_data_files(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web = PROFILES["web"]
    small = Profile(web.name, web.graph, web.data, web.standard, 40_000, web.sessions)
    monkeypatch.setattr("dareq_export.profiles.PROFILES", {"web": small})
    export_onnx(checkpoint, tmp_path / "onnx", profile="web")
    packed = check_round_trip(tmp_path / "onnx", tmp_path)
    assert len(Manifest.read(packed).packed) > 2
    expected = dareq_runtime.load(tmp_path / "onnx", threads=1).logits(IDS)
    assert np.array_equal(dareq_runtime.load(packed, threads=1).logits(IDS), expected)


def test_a_quantized_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    packed = check_round_trip(checkpoint, tmp_path)
    manifest = Manifest.read(checkpoint)
    sizes = {kind.kind: kind for kind in kind_sizes(Manifest.read(packed), packed)}
    for bits, kind in ((4, "4-bit codes"), (8, "8-bit codes")):
        weights = sum(np.prod(t.shape) for t in manifest.tensors.values() if t.method and t.bits == bits)
        assert (sizes[kind].weights if kind in sizes else 0) == weights
