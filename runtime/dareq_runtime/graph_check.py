"""What a graph may not ask of onnxruntime, read before onnxruntime sees it.

A graph that dareq-edge wrote is a list of operators whose weights are initializers, in the file itself or at a place
of a data file that dareq.json lists. Whatever else ONNX allows is refused: graphs within operators (Loop, If, Scan)
and functions, which may run or nest without end; weights anywhere else; places beyond the end of a file.
Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from dareq_edge.errors import ArtifactError
from dareq_edge.folders import inside
from dareq_edge.manifest import Manifest
from dareq_runtime.initializers import external_tensors
from dareq_runtime.protobuf import fields, parts, text

_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25  # of ModelProto
_NODE, _SPARSE = 1, 15  # of GraphProto
_OPERATOR, _ATTRIBUTE = 4, 5  # of NodeProto
_TENSOR, _TENSORS, _SUBGRAPH, _SUBGRAPHS, _SPARSE_VALUES = 5, 10, 6, 11, (22, 23)  # of AttributeProto
_EXTERNAL = 13  # of TensorProto


def check_graph(folder: Path, manifest: Manifest) -> None:
    """Check the graph of an exported folder, packed or not; one in ORT format is left to onnxruntime.

    Raises:
        ArtifactError: It is no graph, or asks for one of the above.
    """
    path = inside(folder, manifest.graph)
    if path.suffix == ".ort":
        return
    model = path.read_bytes()
    try:
        found = _forbidden(model)
    except (ValueError, IndexError) as error:
        raise ArtifactError(f"{path} is no ONNX graph ({error}); copy or export the folder again") from error
    if found:
        raise ArtifactError(f"{path} holds {found}, which dareq-edge never writes; export the folder again")
    if manifest.packed:
        return  # ``packed`` compares every place with what the containers hold
    beside = PurePosixPath(manifest.graph).parent
    for tensor in external_tensors(model):
        name = (beside / tensor.location).as_posix()
        size = manifest.files[name].bytes if name in manifest.files else 0
        if not 0 <= tensor.offset <= size - tensor.nbytes or tensor.nbytes < 0:
            raise ArtifactError(
                f"{path} wants {tensor.nbytes} bytes at {tensor.offset} of {tensor.location!r:.80}, "
                "which the folder does not hold; copy or export it again"
            )


def _forbidden(model: bytes) -> str:
    """What must not be there, in words; empty if nothing is."""
    for number, value in fields(memoryview(model)):
        if number in (_TRAINING, _FUNCTIONS):
            return "functions"
        if number != _GRAPH or isinstance(value, int):
            continue
        for kind, part in fields(value):
            if kind == _SPARSE:
                return "sparse weights"
            if kind == _NODE and not isinstance(part, int) and (found := _in_node(part)):
                return found
    return ""


def _in_node(node: memoryview) -> str:
    for attribute in parts(node, _ATTRIBUTE):
        for number, value in fields(attribute):
            if number in (_SUBGRAPH, _SUBGRAPHS):
                return f"a graph within {' '.join(map(text, parts(node, _OPERATOR)))!r:.40}"
            if number in _SPARSE_VALUES:
                return "sparse weights"
            if number in (_TENSOR, _TENSORS) and not isinstance(value, int) and parts(value, _EXTERNAL):
                return "an attribute in another file"
    return ""
