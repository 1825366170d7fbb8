"""A float or a quantized checkpoint with one file broken: what quantize and export read of it before they compute."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from dareq_edge.checkpoint import Checkpoint
from dareq_edge.manifest import NAME
from dareq_edge.packed.safetensors_header import read_header
from dareq_edge.quantized import read_plan
from dareq_export.capture import read_config
from dareq_export.source import QuantizedSource
from hostile.forks import ANSWERED, DEFECT
from hostile.mutations import changed_bytes, changed_json
from hostile.subjects import Change, Subject, seal_again

COUNTS = [pytest.param(25, id="fast"), pytest.param(1500, id="all", marks=pytest.mark.slow)]
WEIGHTS = "model.safetensors"


def first_bytes(content: bytes, number: int) -> bytes:
    """Changes of the header, which is a small part of the file."""
    size = 8 + int.from_bytes(content[:8], "little")
    return changed_bytes(content[:size], number) + content[size:]


def header_json(content: bytes, number: int) -> bytes:
    """A header that is JSON and has the length it says."""
    size = 8 + int.from_bytes(content[:8], "little")
    header = changed_json(content[8:size], number)
    return len(header).to_bytes(8, "little") + header + content[size:]


def float_answer(folder: Path) -> str:
    """What quantize reads: configuration, architecture, names and shapes, every tensor."""
    found = Checkpoint.open(str(folder))
    names = found.bind(found.empty_model())
    digest = sha256()
    for name, tensor in found.iter_tensors(names.values()):
        digest.update(repr((name, tensor.shape)).encode() + tensor.float().numpy().tobytes())
    return digest.hexdigest()


def quantized_answer(folder: Path) -> str:
    """What export reads before it captures."""
    source = QuantizedSource.open(folder)
    read_plan(Checkpoint.open(str(folder)))
    read_config(folder)
    digest = sha256(repr(source.plan).encode())
    for name in source.shards:
        digest.update(source.tensor(name).tobytes())
    return digest.hexdigest()


def header_answer(folder: Path) -> str:
    """What pack reads of a file's own header."""
    return repr(read_header(folder / WEIGHTS))


@pytest.fixture(scope="module")
def place(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("checkpoints")
    for name in "mq":
        shutil.copytree(sources / name, place / name)
    return place


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("name", "change"),
    [("config.json", changed_json), ("config.json", changed_bytes), (WEIGHTS, first_bytes), (WEIGHTS, header_json)],
)
def test_float_checkpoints(place: Path, name: str, change: Change, count: int) -> None:
    found = Subject(place / "m", name, change, float_answer).run(range(count))
    assert [o for o in found if o.kind == DEFECT] == []


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("name", "change"), [(WEIGHTS, changed_bytes), ("config.json", changed_json)])
def test_no_changed_checkpoint_is_exported(place: Path, name: str, change: Change, count: int) -> None:
    found = Subject(place / "q", name, change, quantized_answer).run(range(count))
    assert [o for o in found if o.kind in (DEFECT, ANSWERED)] == []


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(
    ("name", "change"),
    [(WEIGHTS, first_bytes), (WEIGHTS, header_json), ("config.json", changed_json), (NAME, changed_json)],
)
def test_a_checkpoint_that_means_harm_breaks_nothing(place: Path, name: str, change: Change, count: int) -> None:
    def seal(folder: Path) -> None:
        if name != NAME:
            seal_again(folder)

    found = Subject(place / "q", name, change, quantized_answer, seal).run(range(count))
    assert [o for o in found if o.kind == DEFECT] == []


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("change", [first_bytes, header_json])
def test_headers_that_pack_reads(place: Path, change: Change, count: int) -> None:
    found = Subject(place / "q", WEIGHTS, change, header_answer).run(range(4 * count))
    assert [o for o in found if o.kind == DEFECT] == []
