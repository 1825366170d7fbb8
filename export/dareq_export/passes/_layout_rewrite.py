"""What the passes to standard operators share: every node of one contrib operator is rewritten by its layout."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import onnx_ir as ir

from dareq_export.columns import ColumnLayout
from dareq_export.passes import _graph


class LayoutRewritePass(ir.passes.InPlacePass):
    """Rewrite every node of an operator of onnxruntime's domain.

    Args:
        layouts: By the name of the parameter that holds the codes.
    """

    operator: str
    codes: int  # which input they are

    def __init__(self, layouts: Mapping[str, ColumnLayout]) -> None:
        super().__init__()
        self._layouts = layouts

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite all of them."""
        found = [n for n in model.graph if _graph.is_op(n, self.operator, _graph.MICROSOFT)]
        for node in found:
            codes = node.inputs[self.codes]
            assert codes is not None
            self.rewrite(model.graph, node, self._layouts[str(codes.name)])
        return ir.passes.PassResult(model, modified=bool(found))

    @abstractmethod
    def rewrite(self, graph: ir.Graph, node: ir.Node, layout: ColumnLayout) -> None:
        """Replace one node."""
