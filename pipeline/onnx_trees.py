"""Tree ensembles of scikit-learn as attributes of ONNX's `TreeEnsembleRegressor`, built column by column with numpy.

Thresholds and leaves stay float64 (the node takes float64 input): in float32 a thousand trees drift by 1e-5. A random
forest can be float32 all the same, and is then an eighth faster and smaller: its inputs are float32, so a threshold
rounded down to float32 decides alike, and groups of a few trees are added up in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, helper, numpy_helper

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trees:
    """All nodes of an ensemble, one entry a node; children are positions within the node's own tree.

    A row goes left when its value is at most the threshold; a NaN goes left where `missing_left` is set. `weights` is
    (leaves, outputs): what each leaf, in the order of the nodes, adds to each of `targets` outputs. A leaf of tree t
    adds to output `first_target[t]` and those after it.
    """

    tree: Ints
    node: Ints
    leaf: NDArray[np.bool_]
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    missing_left: Ints
    weights: Floats
    first_target: Ints
    targets: int
    base: Floats


def forest(model: Any) -> Trees:
    """A random forest: the mean of the trees' class shares; for two classes the share of the second alone."""
    trees = [estimator.tree_ for estimator in model.estimators_]
    shares = [tree.value[tree.children_left < 0, 0, :] for tree in trees]
    weights = np.concatenate(shares) / len(trees)
    if weights.shape[1] == 2:
        weights = weights[:, 1:]
    return _of_cython_trees(
        trees, weights, np.zeros(len(trees), np.int64), weights.shape[1], np.zeros(weights.shape[1])
    )


def boosted(model: Any) -> Trees:
    """Gradient boosting: the sum of shrunken trees on top of the initial raw score; one output, or one a class."""
    stages, outputs = model.estimators_.shape
    trees = [estimator.tree_ for estimator in model.estimators_.ravel()]
    weights = np.concatenate([tree.value[tree.children_left < 0, 0, :1] for tree in trees]) * model.learning_rate
    base = np.asarray(model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32)), np.float64).ravel()
    return _of_cython_trees(trees, weights, np.tile(np.arange(outputs), stages), outputs, base)


def histogram_boosted(model: Any) -> Trees:
    """Histogram gradient boosting: leaves are shrunken already, and missing values have a side."""
    stages, outputs = len(model._predictors), model.n_trees_per_iteration_
    tables = [predictor.nodes for stage in model._predictors for predictor in stage]
    nodes = np.concatenate(tables)
    if np.any(nodes["is_categorical"]):
        raise ValueError("categorical splits are not supported")
    leaf = nodes["is_leaf"].astype(bool)
    tree, node = _positions([len(table) for table in tables])
    return Trees(
        tree=tree,
        node=node,
        leaf=leaf,
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
        threshold=np.where(leaf, 0.0, nodes["num_threshold"]),
        left=np.where(leaf, 0, nodes["left"]).astype(np.int64),
        right=np.where(leaf, 0, nodes["right"]).astype(np.int64),
        missing_left=np.where(leaf, 0, nodes["missing_go_to_left"]).astype(np.int64),
        weights=nodes["value"][leaf][:, None],
        first_target=np.tile(np.arange(outputs), stages),
        targets=outputs,
        base=np.asarray(model._baseline_prediction, np.float64).ravel(),
    )


def _of_cython_trees(trees: list[Any], weights: Floats, first_target: Ints, targets: int, base: Floats) -> Trees:
    left = np.concatenate([tree.children_left for tree in trees])
    leaf = left < 0

    def inner(name: str) -> NDArray[Any]:
        return np.where(leaf, 0, np.concatenate([getattr(tree, name) for tree in trees]))

    tree, node = _positions([tree.node_count for tree in trees])
    return Trees(
        tree=tree,
        node=node,
        leaf=leaf,
        feature=inner("feature"),
        threshold=inner("threshold").astype(np.float64),
        left=np.where(leaf, 0, left),
        right=inner("children_right"),
        missing_left=inner("missing_go_to_left").astype(np.int64),
        weights=weights,
        first_target=first_target,
        targets=targets,
        base=base,
    )


def _positions(sizes: list[int]) -> tuple[Ints, Ints]:
    """For each node the number of its tree, and its position there."""
    starts = np.cumsum([0, *sizes[:-1]])
    tree = np.repeat(np.arange(len(sizes)), sizes)
    return tree, np.arange(sum(sizes)) - starts[tree]


def in_groups(trees: Trees, size: int) -> list[Trees]:
    """The same ensemble as parts of `size` trees, whose sums add up to its own; the first holds the base."""
    numbers = np.arange(0, int(trees.tree.max(initial=-1)) + 1, size)
    return [_part(trees, first, first + size) for first in numbers.tolist()]


def _part(trees: Trees, first: int, end: int) -> Trees:
    rows = (trees.tree >= first) & (trees.tree < end)
    per_node = ("node", "leaf", "feature", "threshold", "left", "right", "missing_left")
    return replace(
        trees,
        tree=trees.tree[rows] - first,
        **{name: getattr(trees, name)[rows] for name in per_node},
        weights=trees.weights[rows[trees.leaf]],
        first_target=trees.first_target[first:end],
        base=trees.base if first == 0 else np.zeros_like(trees.base),
    )


def rounded_down(values: Floats) -> NDArray[np.float32]:
    """The largest float32 that is no larger: `x <= value` is the same for every float32 `x`."""
    with np.errstate(over="ignore"):
        nearest = values.astype(np.float32)
    return np.where(nearest > values, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def tree_node(trees: Trees, source: str, target: str, *, single: bool = False) -> NodeProto:
    """The ONNX node: float64 (float32 where `single`) (rows, features) in, float32 (rows, targets) raw sums out."""
    node = helper.make_node("TreeEnsembleRegressor", [source], [target], domain="ai.onnx.ml", n_targets=trees.targets)
    leaf = trees.leaf
    _ints(node, "nodes_treeids", trees.tree)
    _ints(node, "nodes_nodeids", trees.node)
    _ints(node, "nodes_featureids", trees.feature)
    _ints(node, "nodes_truenodeids", trees.left)
    _ints(node, "nodes_falsenodeids", trees.right)
    _ints(node, "nodes_missing_value_tracks_true", trees.missing_left)
    _strings(node, "nodes_modes", np.where(leaf, b"LEAF", b"BRANCH_LEQ"))
    if single:
        _floats(node, "nodes_values", rounded_down(trees.threshold))
    else:
        _doubles(node, "nodes_values_as_tensor", trees.threshold)
    # A leaf must name one output at least; beyond the first, those to which it adds nothing are left out.
    rows, columns = np.nonzero((trees.weights != 0) | (np.arange(trees.weights.shape[1]) == 0))
    _ints(node, "target_treeids", trees.tree[leaf][rows])
    _ints(node, "target_nodeids", trees.node[leaf][rows])
    _ints(node, "target_ids", trees.first_target[trees.tree[leaf][rows]] + columns)
    if single:
        _floats(node, "target_weights", trees.weights[rows, columns])
        _floats(node, "base_values", trees.base)
    else:
        _doubles(node, "target_weights_as_tensor", trees.weights[rows, columns])
        _doubles(node, "base_values_as_tensor", trees.base)
    return node


def _ints(node: NodeProto, name: str, values: Ints) -> None:
    # helper.make_attribute looks at the type of every element, which takes seconds for a forest.
    attribute = node.attribute.add(name=name, type=AttributeProto.INTS)
    attribute.ints.extend(values.tolist())


def _strings(node: NodeProto, name: str, values: NDArray[np.bytes_]) -> None:
    node.attribute.add(name=name, type=AttributeProto.STRINGS).strings.extend(values.tolist())


def _floats(node: NodeProto, name: str, values: NDArray[np.floating[Any]]) -> None:
    node.attribute.add(name=name, type=AttributeProto.FLOATS).floats.extend(values.tolist())


def _doubles(node: NodeProto, name: str, values: Floats) -> None:
    tensor = numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float64))
    node.attribute.add(name=name, type=AttributeProto.TENSOR).t.CopyFrom(tensor)
