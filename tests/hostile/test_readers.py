"""Readers of single files, given values that hypothesis makes: an answer, or one of the errors they promise."""

from __future__ import annotations

import json
import os
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dareq_edge.errors import ArtifactError, DareqError, DataError, SpecError, UnsupportedArchitectureError
from dareq_edge.layer_limit import check_layers
from dareq_edge.manifest import NAME, Manifest
from dareq_edge.npy import read_npy
from dareq_edge.packed.safetensors_header import read_header
from dareq_edge.records import parse_json, read_json
from dareq_edge.report import ScoreReport
from dareq_edge.session_settings import SessionSettings
from dareq_edge.spec import QuantSpec
from dareq_runtime.folder import read_json as read_object
from dareq_runtime.initializers import external_tensors
from dareq_runtime.kit.layout import Kit
from dareq_runtime.kit.result import read_result
from dareq_runtime.tokens import read_tokens
from hostile.mutations import VALUES
from packed_folders import tiny_export

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(VALUES)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
MANY = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
TENSOR = {
    "shape": [2, 2],
    "bits": 4,
    "scheme": "x",
    "method": None,
    "file": "f",
    "offset": 0,
    "bytes": 4,
    "shares": None,
}
SCORE = {"label": "x", "protocol": "p", "nll": 1.0, "stderr_nll": 0.1, "tokens": 3, "nll_sum": 3.0}
SCORE |= {"text_bytes": None, "environment": ""}


def record(like: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Records with these keys, some of whose values are anything."""
    return st.fixed_dictionaries({key: st.just(value) | ANYTHING for key, value in like.items()})


MANIFEST = record(
    {"format": 1, "kind": "onnx", "source": "x", "revision": None, "profile": "native", "graph": "model.onnx"}
    | {"pieces": {}, "packed": {}}
)


@MANY
@given(
    base=MANIFEST,
    tensors=st.dictionaries(st.text(), record(TENSOR) | ANYTHING, max_size=2) | ANYTHING,
    files=st.dictionaries(st.text(), record({"bytes": 3, "sha256": "0" * 64}) | ANYTHING, max_size=2) | ANYTHING,
    scores=st.dictionaries(st.text(), record(SCORE) | ANYTHING, max_size=2) | ANYTHING,
    sessions=st.dictionaries(st.sampled_from(["int8", "fp32"]), ANYTHING, max_size=2) | ANYTHING,
)
def test_manifests(tmp_path: Path, base: Any, tensors: Any, files: Any, scores: Any, sessions: Any) -> None:
    data = base | {"tensors": tensors, "files": files, "scores": scores, "sessions": sessions}
    (tmp_path / NAME).write_text(json.dumps(data))
    try:
        manifest = Manifest.read(tmp_path)
        for tensor in manifest.tensors.values():
            manifest.expected_bytes(tensor.file)
        for report in manifest.scores.values():
            json.dumps(report.to_json())
        _ = manifest.graph_bytes
        manifest.verify(tmp_path)
    except ArtifactError as error:
        assert "\n" not in str(error)


@MANY
@given(data=ANYTHING)
def test_records_of_any_shape(tmp_path: Path, data: Any) -> None:
    (tmp_path / "x.json").write_text(json.dumps(data))
    readers = (read_object, read_result, lambda path: Kit.from_json(read_json(path), "x"))
    for reader in readers:
        answered = False
        with suppress(ArtifactError, ValueError):  # the latter is read_json's own, for its callers to word
            reader(tmp_path / "x.json")
            answered = True
        assert not answered or (isinstance(data, dict) and reader is read_object)


@MANY
@given(data=record({"bits": 4, "group_size": None, "scale_dtype": "float32", "method": "rtn"}) | ANYTHING)
def test_specs(data: Any) -> None:
    try:
        spec = QuantSpec.from_json(data)
    except SpecError as error:
        assert "\n" not in str(error)
    else:
        assert 2 <= spec.bits <= 8


@MANY
@given(data=record({"optimization": "ORT_ENABLE_ALL", "entries": {}}))
def test_settings_of_sessions(data: Any) -> None:
    with suppress(ArtifactError, TypeError, AttributeError, KeyError):  # the last three are the manifest's to word
        SessionSettings.from_json(data)


@MANY
@given(descr=st.text(max_size=30) | st.sampled_from(["<i8", "|O", "<U99999999", "V8", ">i4", "<f8", "?", "M8[s]"]))
@pytest.mark.parametrize("shape", [(3,), (2**62,), (2**63, 2**63), (-1,), (0,), (), (3, 0)])
def test_headers_of_arrays(tmp_path: Path, descr: str, shape: tuple[int, ...]) -> None:
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode("latin1", "replace") + b"\n"
    path = tmp_path / "t.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24))
    tracemalloc.start()
    try:
        read_tokens(tokens=path)
    except DataError as error:
        assert "\n" not in str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 << 20


@MANY
@given(content=st.binary(max_size=200))
def test_bytes_of_any_kind(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    for reader in (external_tensors, parse_json, read_npy, lambda data: read_header(tmp_path / "x")):
        with suppress(DareqError, ValueError):
            reader(content)


@pytest.mark.parametrize(
    "text", [b"[" * 200_000, b'{"a":' * 100_000, b'"\\ud800"', b'{"\\uDFFF": 1}', b"\xff", b"9" * 9999]
)
def test_json_that_breaks_later_is_refused_at_once(text: bytes) -> None:
    with pytest.raises(ValueError):  # that it is one is the point
        parse_json(text)


def test_pairs_of_surrogates_are_characters() -> None:
    assert parse_json(b'"\\ud83d\\ude42"') == "\U0001f642"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    folder = tiny_export(tmp_path / "o")
    for name in (NAME, "config.json", "model.onnx.data"):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(ArtifactError):
            Manifest.read(folder).verify(folder)
        (folder / name).unlink()
        (folder / name).write_bytes(content)
    os.mkfifo(tmp_path / "t.npy")
    with pytest.raises(DataError, match="no regular file"):
        read_tokens(tokens=tmp_path / "t.npy")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtifactError, match="1099511627776 bytes"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("config", [{"num_hidden_layers": 10**400}, {"text_config": {"n_layer": 1e300}}])
def test_more_layers_than_there_are(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedArchitectureError, match="layers, 1000 are the most"):
        check_layers(config, tmp_path)


def test_a_header_of_an_array_that_never_ends(tmp_path: Path) -> None:
    header = b"{'descr': '<i8', 'shape': (3,\n"
    (tmp_path / "t.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="its header cannot be read"):
        read_tokens(tokens=tmp_path / "t.npy")


def test_a_perplexity_beyond_floats_is_infinite() -> None:
    assert ScoreReport.from_json(SCORE | {"nll": 1e6}).ppl == np.inf
