"""Graphs that ask onnxruntime for more than the weights of their folder are refused before it sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from dareq_edge.errors import ArtifactError
from dareq_edge.manifest import Manifest
from dareq_runtime import load
from hostile.subjects import seal_again
from packed_folders import tiny_export

Change = Callable[[onnx.ModelProto], None]


def endless(model: onnx.ModelProto) -> None:
    """A loop whose condition is always true, the most iterations that ONNX can name."""
    true, count = (helper.make_tensor(n, k, [], [v]) for n, k, v in (("t", 9, True), ("n", 7, 2**63 - 1)))
    inside = [helper.make_node("Identity", ["c"], ["d"])]
    values = [helper.make_tensor_value_info(n, k, []) for n, k in (("i", 7), ("c", 9), ("d", 9))]
    body = helper.make_graph(inside, "body", values[:2], values[2:])
    model.graph.initializer.extend([true, count])
    model.graph.node.append(helper.make_node("Loop", ["n", "t"], [], body=body))


def function(model: onnx.ModelProto) -> None:
    """A function that calls itself."""
    call = helper.make_node("F", ["x"], ["y"], domain="own")
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], [call], opsets))


def location(value: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for entry in _external(model).external_data:
            if entry.key == "location":
                entry.value = value

    change.__name__ = value
    return change


def place(key: str, value: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        tensor = _external(model)
        kept = {entry.key: entry.value for entry in tensor.external_data} | {key: str(value)}
        del tensor.external_data[:]
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in kept.items())

    change.__name__ = f"{key} {value}"
    return change


def attribute(model: onnx.ModelProto) -> None:
    """A constant whose value is in a file."""
    tensor = TensorProto(name="c", data_type=TensorProto.UINT8, dims=[8])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="config.json"))
    model.graph.node.append(helper.make_node("Constant", [], ["secret"], value=tensor))


def sparse(model: onnx.ModelProto) -> None:
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("s_indices", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))


def _external(model: onnx.ModelProto) -> TensorProto:
    return next(t for t in model.graph.initializer if t.external_data)


CASES: list[tuple[Change, str]] = [
    (endless, "holds a graph within 'Loop'"),
    (function, "holds functions"),
    (attribute, "holds an attribute in another file"),
    (sparse, "holds sparse weights"),
    *(
        (location(name), "which the folder does not hold")
        for name in ("../../../../../etc/passwd", "/etc/passwd", "unlisted.bin", "dareq.json", "")
    ),
    (place("offset", -4096), "which the folder does not hold"),
    (place("offset", 2**62), "which the folder does not hold"),
    (place("offset", 2**70), "which the folder does not hold"),
    (place("length", 2**40), "bytes for"),
    (place("length", -1), "bytes for"),
]


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(("change", "words"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_refused(tmp_path: Path, change: Change, words: str, verify: bool) -> None:
    folder = tiny_export(tmp_path / "o")
    (folder / "unlisted.bin").write_bytes(bytes(1 << 20))
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    seal_again(folder)
    with pytest.raises(ArtifactError, match=words) as caught:
        load(folder, verify=verify)
    assert "\n" not in str(caught.value)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tiny_export(tmp_path / "o")
    content = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(content.replace(b"batch_size", b"batch\xffsize"))
    seal_again(folder)
    with pytest.raises(ArtifactError, match="has a name that is no text"):
        load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "generation_config.json", "vocab.json"])
def test_a_file_that_nothing_vouches_for(tmp_path: Path, name: str) -> None:
    folder = tiny_export(tmp_path / "o")
    (folder / name).write_text("{}")
    with pytest.raises(ArtifactError, match=rf"{name} in .* is not listed in dareq\.json"):
        load(folder)
    (folder / "README.md").write_text("one's own files are one's own")
    (folder / name).unlink()
    load(folder)


@pytest.mark.parametrize(
    "entry", ["session.model_external_initializers_file_folder_path", "session.load_model_format", "ep.x"]
)
def test_settings_that_dareq_edge_never_makes(tmp_path: Path, entry: str) -> None:
    folder = tiny_export(tmp_path / "o")
    manifest = Manifest.read(folder)
    manifest.sessions["int8"].entries[entry] = "/etc"  # type: ignore[index]
    manifest.write(folder)
    with pytest.raises(ArtifactError, match=f"session entry '{entry}' is none that dareq-edge sets"):
        load(folder)


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    folder = tiny_export(tmp_path / "o")
    (tmp_path / "elsewhere").write_bytes((folder / "config.json").read_bytes())
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("../elsewhere")
    with pytest.raises(ArtifactError, match="is a link that leads out of the folder"):
        load(folder)
