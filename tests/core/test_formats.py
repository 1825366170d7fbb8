"""Packing, QuantizedTensor, QuantSpec and the manifest: golden bytes, inverses, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dareq_edge.errors import ArtifactError, CheckpointError, SpecError
from dareq_edge.manifest import FileEntry, Manifest, TensorEntry
from dareq_edge.packing import pack, packed_width, unpack
from dareq_edge.qtensor import QuantizedTensor
from dareq_edge.report import ScoreReport
from dareq_edge.session_settings import NATIVE_SESSIONS, SessionSettings
from dareq_edge.spec import QuantSpec


@pytest.mark.parametrize(
    ("bits", "codes", "packed"),
    [
        (4, [1, 2, 3, 4], [0x21, 0x43]),
        (2, [1, 2, 3, 0], [0x39]),
        (8, [1, 255], [0x01, 0xFF]),
        (3, [1, 2, 3], [0xD1, 0x00]),
        (4, [15], [0x0F]),
    ],
)
def test_golden_bytes(bits: int, codes: list[int], packed: list[int]) -> None:
    assert pack(np.array([codes], dtype=np.uint8), bits).tolist() == [packed]


@given(bits=st.integers(1, 8), n=st.integers(1, 5), k=st.integers(1, 40), seed=st.integers(0, 99))
def test_unpack_inverts_pack(bits: int, n: int, k: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (n, k), dtype=np.uint8)
    packed = pack(codes, bits)
    assert packed.shape == (n, packed_width(k, bits))
    np.testing.assert_array_equal(unpack(packed, bits, k), codes)


def test_dequantize_is_scale_times_signed_code_per_group() -> None:
    codes = np.array([[0, 8, 15] + [8] * 14], dtype=np.uint8)
    tensor = QuantizedTensor(codes, np.array([[0.5, 2.0]], dtype=np.float32), QuantSpec(group_size=16))
    assert tensor.dequantize()[0, :3].tolist() == [-4.0, 0.0, 3.5]
    again = QuantizedTensor.from_packed(tensor.packed(), tensor.scales, 17, tensor.spec)
    np.testing.assert_array_equal(again.dequantize(), tensor.dequantize())


def test_shapes_that_do_not_fit_are_refused() -> None:
    codes, scales = np.zeros((2, 32), np.uint8), np.ones((2, 1), np.float32)
    with pytest.raises(CheckpointError, match="scales"):
        QuantizedTensor(codes, scales, QuantSpec(group_size=16))
    with pytest.raises(CheckpointError, match="qweight"):
        QuantizedTensor.from_packed(codes, scales, 33, QuantSpec())


@pytest.mark.parametrize("bad", [{"bits": 1}, {"bits": 9}, {"group_size": 48}, {"scale_dtype": "float16"}])
def test_a_spec_out_of_range_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=str(next(iter(bad)))):
        QuantSpec(**bad)


def test_a_spec_survives_json_and_refuses_unknown_fields() -> None:
    spec = QuantSpec(bits=3, group_size=64, scale_dtype="bfloat16", method="rtn")
    assert QuantSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(SpecError, match="zeros"):
        QuantSpec.from_json({"bits": 4, "zeros": True})


def manifest(tmp_path: Path) -> Manifest:
    (tmp_path / "data").write_bytes(b"12345678")
    score = ScoreReport("x", "gptq(window=8)", 1.5, 0.1, 100, 150.0, 400, "here")
    entry = TensorEntry((2, 4), 4, "per channel", "dareq", "data", 0, 8)
    return Manifest("onnx", "me/model", None, {"a": entry}, scores={"x": score}).with_files(tmp_path)


def test_manifest_round_trip_and_size(tmp_path: Path) -> None:
    made = manifest(tmp_path)
    made.write(tmp_path)
    read = Manifest.read(tmp_path)
    assert read == made
    assert read.expected_bytes("data") == 8
    read.verify(tmp_path)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    made = manifest(tmp_path)
    (tmp_path / "data").write_bytes(b"12345679")
    with pytest.raises(ArtifactError, match="sha256"):
        made.verify(tmp_path)
    (tmp_path / "data").write_bytes(b"1234")
    with pytest.raises(ArtifactError, match="4 bytes, expected 8"):
        made.verify(tmp_path)
    (tmp_path / "data").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        made.verify(tmp_path)


def test_a_manifest_may_not_point_out_of_its_folder(tmp_path: Path) -> None:
    outside = Manifest("onnx", "me", files={"../data": FileEntry(8, "0")})
    with pytest.raises(ArtifactError, match="leads out"):
        outside.verify(tmp_path)


def test_a_manifest_keeps_what_a_session_must_be_told(tmp_path: Path) -> None:
    sessions = {c: SessionSettings("ORT_ENABLE_ALL", {"session.disable_prepacking": c}) for c in ("int8", "fp32")}
    made = Manifest("onnx", "me", profile="web", graph="onnx/model_q4.onnx", sessions=sessions)
    made.write(tmp_path)
    assert Manifest.read(tmp_path) == made


def test_a_manifest_of_before_profiles_is_native(tmp_path: Path) -> None:
    Manifest("onnx", "me").write(tmp_path)
    data = json.loads((tmp_path / "dareq.json").read_text())
    for key in ("profile", "graph", "sessions"):
        del data[key]
    (tmp_path / "dareq.json").write_text(json.dumps(data))
    read = Manifest.read(tmp_path)
    assert (read.profile, read.graph, read.sessions) == ("native", "model.onnx", NATIVE_SESSIONS)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimization": "ORT_FASTER", "entries": {}},
        {"optimization": "ORT_ENABLE_ALL", "entries": {"session.disable_prepacking": 1}},
        {"optimization": "ORT_ENABLE_ALL", "entries": {"session.register_custom_ops_library": "x.so"}},
    ],
)
def test_session_settings_that_onnxruntime_would_not_take(tmp_path: Path, settings: dict[str, object]) -> None:
    Manifest("onnx", "me").write(tmp_path)
    data = json.loads((tmp_path / "dareq.json").read_text())
    (tmp_path / "dareq.json").write_text(json.dumps(data | {"sessions": {"int8": settings}}))
    with pytest.raises(ArtifactError, match=r"optimization is|is 1, not text|custom_ops_library' is none that"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1}'])
def test_a_manifest_that_is_not_ours_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dareq.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"dareq\.json"):
        Manifest.read(tmp_path)
