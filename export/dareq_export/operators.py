"""What a graph runs for every token: its operators, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx

from dareq_edge.errors import ArtifactError
from dareq_edge.folders import inside
from dareq_edge.manifest import Manifest


@dataclass(frozen=True, slots=True)
class OperatorCount:
    """One kind of operator.

    Attributes:
        name: With its domain unless that is ONNX's own, e.g. "com.microsoft::MatMulNBits".
        count: Nodes in the graph; each runs once per forward pass.
        per_layer: Nodes in a decoder layer: those after one attention up to the next, of the last two.
    """

    name: str
    count: int
    per_layer: int


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """All of them.

    Attributes:
        layers: Decoder layers, i.e. attentions.
        operators: Most frequent first.
    """

    layers: int
    operators: tuple[OperatorCount, ...]

    @property
    def total(self) -> int:
        """Operators per forward pass."""
        return sum(o.count for o in self.operators)

    @property
    def per_layer(self) -> int:
        """Operators in every decoder layer."""
        return sum(o.per_layer for o in self.operators)

    @property
    def outside(self) -> int:
        """Operators outside the layers: tables, mask, head."""
        return self.total - self.layers * self.per_layer


def summarize(folder: Path) -> GraphSummary:
    """Count the operators of an exported folder.

    Raises:
        ArtifactError: There is no graph, or it cannot be read.
    """
    name = Manifest.read(folder).graph
    path = inside(folder, name)
    if path.suffix == ".ort":
        raise ArtifactError(
            f"{path} is in ORT format; required_operators.config beside it lists its operators, and inspect counts "
            "those of the folder it was made from"
        )
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except FileNotFoundError as error:
        raise ArtifactError(f"there is no {name} in {folder}; give a folder that dareq-edge export wrote") from error
    except Exception as error:  # protobuf raises a class of its own
        raise ArtifactError(f"{path} cannot be read ({error}); export the folder again") from error
    names = [f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in graph.node]
    attentions = [index for index, name in enumerate(names) if name == "com.microsoft::GroupQueryAttention"]
    layer = Counter(names[attentions[-2] + 1 : attentions[-1] + 1] if len(attentions) > 1 else [])
    rows = (OperatorCount(name, count, layer[name]) for name, count in Counter(names).most_common())
    return GraphSummary(len(attentions), tuple(rows))
