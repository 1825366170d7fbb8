"""A scikit-learn random forest as an ONNX tree ensemble; used by train_fastewq.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestClassifier

OPSET, ML_OPSET, IR = 17, 3, 8  # old enough for every onnxruntime that dareq-edge takes


def to_onnx(forest: RandomForestClassifier, columns: tuple[str, ...], notes: dict[str, str]) -> onnx.ModelProto:
    """Write a forest down.

    Args:
        forest: Fitted; its classes are whole numbers.
        columns: Names of the features, for the file's metadata.
        notes: More metadata.

    Returns:
        A model with input "features" float32 [rows, columns] and output "label" int64 [rows].
    """
    parts: dict[str, list[object]] = {}
    for t, tree in enumerate(forest.estimators_):
        _add_tree(parts, t, tree.tree_)
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["features"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        classlabels_int64s=[int(c) for c in forest.classes_],
        post_transform="NONE",
        **parts,
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "fastewq",
        [value("features", TensorProto.FLOAT, ["rows", len(columns)])],
        [value("label", TensorProto.INT64, ["rows"])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="dareq-edge")
    helper.set_model_props(model, {"columns": ",".join(columns), **notes})
    onnx.checker.check_model(model)
    return model


def _add_tree(parts: dict[str, list[object]], t: int, tree: object) -> None:
    """One tree's nodes and leaves, in ONNX' parallel lists."""

    def add(**values: object) -> None:
        for name, value in values.items():
            parts.setdefault(name, []).append(value)

    for n in range(tree.node_count):  # type: ignore[attr-defined]  # scikit-learn's own structure
        left, right = int(tree.children_left[n]), int(tree.children_right[n])  # type: ignore[attr-defined]
        leaf = left < 0
        add(
            nodes_treeids=t,
            nodes_nodeids=n,
            nodes_modes="LEAF" if leaf else "BRANCH_LEQ",
            nodes_featureids=0 if leaf else int(tree.feature[n]),  # type: ignore[attr-defined]
            nodes_values=0.0 if leaf else _below(float(tree.threshold[n])),  # type: ignore[attr-defined]
            nodes_truenodeids=0 if leaf else left,
            nodes_falsenodeids=0 if leaf else right,
            nodes_missing_value_tracks_true=0,
        )
        if leaf:  # not divided by the number of trees: sums of pure leaves are exact, and so are ties
            shares = tree.value[n, 0] / tree.value[n, 0].sum()  # type: ignore[attr-defined]
            for c, share in enumerate(shares):
                add(class_treeids=t, class_nodeids=n, class_ids=c, class_weights=float(share))


def _below(threshold: float) -> float:
    """The largest float32 that is not above a threshold: float32 features then go where scikit-learn sends them."""
    rounded = np.float32(threshold)
    return float(rounded if rounded <= threshold else np.nextafter(rounded, np.float32(-np.inf)))
