from __future__ import annotations

import json
from pathlib import Path

import pytest

from dareq_edge.container import Region
from dareq_edge.errors import ArtifactError
from dareq_edge.manifest import Manifest, TensorEntry
from dareq_edge.packed.regions import file_regions
from dareq_edge.packed.safetensors_header import StoredTensor, read_header


def entry(shape: tuple[int, ...], bits: int, offset: int | None, size: int, **more: object) -> TensorEntry:
    return TensorEntry(shape, bits, "per channel", "rtn", "w", offset, size, **more)  # type: ignore[arg-type]


def regions(folder: Path, tensors: dict[str, TensorEntry], size: int) -> list[Region]:
    (folder / "w").write_bytes(bytes(size))
    return file_regions(Manifest("onnx", "x", tensors=tensors), folder, "w")


def test_codes_scales_and_the_rest(tmp_path: Path) -> None:
    tensors = {
        "scales": entry((4, 2), 32, 128, 32),
        "b.qweight": entry((4, 16), 8, 64, 64),
        "a.qweight": entry((4, 16), 4, 0, 32),
        "half": entry((8,), 16, 160, 16),
        "bias": entry((8,), 32, 176, 32),
        "3 bits in 4": entry((2, 16), 3, 208, 16),
        "5 bits in 8": entry((2, 16), 5, 224, 32),
    }
    assert regions(tmp_path, tensors, 256) == [
        Region(0, 32, "codes4", 8),
        Region(64, 64, "codes8", 16),
        Region(128, 32, "floats", 8),
        Region(176, 32, "floats", 4),
        Region(208, 16, "codes4", 8),
        Region(224, 32, "codes8", 16),
    ]


def test_shared_bytes_count_once_and_wrong_places_not_at_all(tmp_path: Path) -> None:
    tensors = {
        "table": entry((4, 16), 8, 0, 64),
        "head": entry((4, 16), 8, 0, 64, shares="table"),
        "overlaps": entry((4, 16), 8, 32, 64),
        "beyond": entry((4, 16), 8, 96, 64),
        "elsewhere": TensorEntry((4, 16), 8, "per channel", "rtn", "v", 64, 64),
        "unknown": entry((4, 16), 8, None, 64),
    }
    assert regions(tmp_path, tensors, 128) == [Region(0, 64, "codes8", 16)]


def shard(path: Path, header: object, body: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def test_safetensors_are_read_by_their_own_header(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "a.qweight": {"dtype": "U8", "shape": [4, 8], "data_offsets": [0, 32]},
        "a.scales": {"dtype": "F32", "shape": [4, 1], "data_offsets": [32, 48]},
        "norm.weight": {"dtype": "F16", "shape": [8], "data_offsets": [48, 64]},
    }
    path = shard(tmp_path / "model.safetensors", header, bytes(64))
    start = path.stat().st_size - 64
    assert read_header(path)["a.scales"] == StoredTensor("F32", (4, 1), start + 32, 16)
    matrix = TensorEntry((4, 16), 4, "per channel", "rtn", path.name, None, 48)
    found = file_regions(Manifest("checkpoint", "x", tensors={"a.weight": matrix}), tmp_path, path.name)
    assert found == [Region(start, 32, "codes4", 8), Region(start + 32, 16, "floats", 4)]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        (1 << 60).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{{",
        (9).to_bytes(8, "little") + b'{"a": {}}',
        *(
            len(text).to_bytes(8, "little") + text + bytes(8)
            for text in (
                b'{"a": {"dtype": "U8", "shape": [Infinity], "data_offsets": [0, 8]}}',
                b'{"a": {"dtype": "U8", "shape": ["8"], "data_offsets": [0, 8]}}',
                b'{"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8.5]}}',
                b'{"a": {"dtype": "U8", "shape": [8], "data_offsets": [0, 9]}}',
            )
        ),
    ],
)
def test_what_is_no_header_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"x\.safetensors"):
        read_header(tmp_path / "x.safetensors")
