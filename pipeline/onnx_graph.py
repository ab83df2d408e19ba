"""The fitted steps of a candidate as ONNX nodes: one function for each kind of step, in a table by type.

Everything between the float32 input and the float32 answer is float64, as it is inside scikit-learn, so the answers are
equal to the last float32 digit. A step without a function here is a `ConversionError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler, TargetEncoder

from pipeline.onnx_trees import Trees, boosted, forest, histogram_boosted, in_groups, tree_node

OPSET = 21
ML_OPSET = 3
#: The file format that goes with the opset; onnx would stamp its newest.
IR_VERSION = 10
#: Trees of a forest in one node: their sums in float32 differ by less than 1e-7, and one group after the other stays in
#: the processor's cache while a batch goes through it.
GROUPED_TREES = 25


class ConversionError(Exception):
    """A fitted pipeline that ONNX cannot hold, or not exactly; the message is the reason."""


class Graph:
    """A graph under construction; names are made here, so steps cannot collide."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self._names = 0

    def name(self) -> str:
        self._names += 1
        return f"v{self._names}"

    def constant(self, values: Any, dtype: Any = np.float64) -> str:
        name = self.name()
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, dtype=dtype), name))
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node with one output; returns the output's name."""
        name = self.name()
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def add_trees(self, trees: Trees, source: str, *, single: bool = False) -> str:
        """Raw sums of an ensemble as float64; the source is float32 where `single`."""
        name = self.name()
        self.nodes.append(tree_node(trees, source, name, single=single))
        return self.double(name)

    def double(self, source: str) -> str:
        return self.add("Cast", source, to=TensorProto.DOUBLE)

    def float(self, source: str) -> str:
        return self.add("Cast", source, to=TensorProto.FLOAT)

    def columns(self, source: str, positions: Any) -> str:
        return self.add("Gather", source, self.constant(positions, np.int64), axis=1)

    def model(self, result: str, width: int, classes: int) -> ModelProto:
        """Closes the graph: `X` (rows, width) to `probabilities` (rows, classes), both float32."""
        self.nodes.append(helper.make_node("Cast", [result], ["probabilities"], to=TensorProto.FLOAT))
        graph = helper.make_graph(
            self.nodes,
            "model",
            [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, classes])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="mlops")


Step = Callable[[Graph, Any, str], str]


# --- preprocessing: (graph, fitted step, float64 input) -> float64 output


def add_step(graph: Graph, step: Any, source: str) -> str:
    """The nodes of one fitted preprocessing step."""
    if isinstance(step, str) and step == "passthrough":
        return source
    function = STEPS.get(type(step))
    if function is None:
        raise ConversionError(f"{type(step).__name__} has no ONNX form here")
    return function(graph, step, source)


def _chain(graph: Graph, step: Pipeline, source: str) -> str:
    for _, part in step.steps:
        source = add_step(graph, part, source)
    return source


def _beside(graph: Graph, step: ColumnTransformer, source: str) -> str:
    parts = [
        add_step(graph, part, graph.columns(source, columns))
        for _, part, columns in step.transformers_
        if len(columns) and not (isinstance(part, str) and part == "drop")
    ]
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)


def _widen(_graph: Graph, step: FunctionTransformer, source: str) -> str:
    if step.func not in (None, np.positive):  # "passthrough" when fitted, and the cast to float64
        raise ConversionError(f"a FunctionTransformer of {step.func} has no ONNX form here")
    return source


def _impute(graph: Graph, step: SimpleImputer, source: str) -> str:
    fill = np.asarray(step.statistics_).astype(step._fit_dtype).astype(np.float64)
    return graph.add("Where", graph.add("IsNaN", source), graph.constant(fill), source)


def _scale(graph: Graph, step: StandardScaler, source: str) -> str:
    centred = graph.add("Sub", source, graph.constant(step.mean_))
    return graph.add("Div", centred, graph.constant(step.scale_))


def _one_hot(graph: Graph, step: OneHotEncoder, source: str) -> str:
    """All columns at once: each column repeated for its levels, and compared with them."""
    counts = [len(levels) for levels in step.categories_]
    repeated = graph.columns(source, np.repeat(np.arange(len(counts)), counts))
    return graph.double(graph.add("Equal", repeated, graph.constant(np.concatenate(step.categories_))))


def _target(graph: Graph, step: TargetEncoder, source: str) -> str:
    """One table of codes for all columns, the last row of each column's block being for what training did not see."""
    outputs = len(step.classes_) if step.target_type_ == "multiclass" else 1
    unknown = np.broadcast_to(np.asarray(step.target_mean_, np.float64).ravel(), (outputs,))
    blocks = [
        _code_table(categories, step.encodings_[column * outputs : (column + 1) * outputs], unknown)
        for column, categories in enumerate(step.categories_)
    ]
    sizes = np.array([len(block) - 1 for block in blocks])
    starts = np.cumsum([0, *(len(block) for block in blocks[:-1])])
    last = graph.constant(sizes)
    known = graph.add("And", graph.add("GreaterOrEqual", source, graph.constant(0.0)), graph.add("Less", source, last))
    codes = graph.add("Add", graph.add("Where", known, source, last), graph.constant(starts))
    found = graph.add("Gather", graph.constant(np.concatenate(blocks)), graph.add("Cast", codes, to=TensorProto.INT64))
    return graph.add("Reshape", found, graph.constant([-1, len(blocks) * outputs], np.int64))


def _code_table(
    categories: NDArray[Any], encodings: list[NDArray[np.float64]], unknown: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(highest code + 2, outputs): codes that training rows lacked, and the last row, hold the mean of the target."""
    codes = np.asarray(categories, dtype=np.int64)
    seen = codes >= 0
    table = np.tile(unknown, (int(codes.max(initial=-1)) + 2, 1))
    table[codes[seen]] = np.column_stack(encodings)[seen]
    return table


STEPS: dict[type, Step] = {
    Pipeline: _chain,
    ColumnTransformer: _beside,
    FunctionTransformer: _widen,
    SimpleImputer: _impute,
    StandardScaler: _scale,
    OneHotEncoder: _one_hot,
    TargetEncoder: _target,
}


# --- models: (graph, fitted model, float64 input) -> float64 probabilities of the model's own classes


def add_model(graph: Graph, model: Any, source: str) -> str:
    """The nodes of a fitted classifier."""
    function = MODELS.get(type(model))
    if function is None:
        raise ConversionError(f"{type(model).__name__} has no ONNX form here")
    return function(graph, model, source)


def _forest(graph: Graph, model: RandomForestClassifier, source: str) -> str:
    seen = graph.float(source)
    sums = [graph.add_trees(part, seen, single=True) for part in in_groups(forest(model), GROUPED_TREES)]
    shares = sums[0] if len(sums) == 1 else graph.add("Sum", *sums)
    return _both(graph, shares) if len(model.classes_) == 2 else shares


def _boosted(graph: Graph, model: GradientBoostingClassifier, source: str) -> str:
    if model.init not in (None, "zero"):
        raise ConversionError("gradient boosting that starts from another estimator (init) has no ONNX form here")
    raw = graph.add_trees(boosted(model), _as_trees_see(graph, source))
    if model.loss == "exponential":
        raw = graph.add("Mul", raw, graph.constant(2.0))
    return _link(graph, raw, len(model.classes_))


def _histogram_boosted(graph: Graph, model: HistGradientBoostingClassifier, source: str) -> str:
    try:
        trees = histogram_boosted(model)
    except ValueError as error:
        raise ConversionError(f"histogram gradient boosting: {error}") from None
    return _link(graph, graph.add_trees(trees, source), len(model.classes_))


def _logistic(graph: Graph, model: LogisticRegression, source: str) -> str:
    product = graph.add("MatMul", source, graph.constant(model.coef_.T))
    raw = graph.add("Add", product, graph.constant(model.intercept_))
    return _link(graph, raw, len(model.classes_))


MODELS: dict[type, Step] = {
    RandomForestClassifier: _forest,
    GradientBoostingClassifier: _boosted,
    HistGradientBoostingClassifier: _histogram_boosted,
    LogisticRegression: _logistic,
}


def add_classes(graph: Graph, source: str, known: NDArray[np.int64], classes: int) -> str:
    """Spreads the model's own classes over all of the schema's; a class that training lacked gets 0."""
    if len(known) == classes:
        return source
    spread = np.zeros((len(known), classes))
    spread[np.arange(len(known)), known] = 1.0
    return graph.add("MatMul", source, graph.constant(spread))


def _as_trees_see(graph: Graph, source: str) -> str:
    """Rounded to float32: what scikit-learn's trees do to every input before they compare."""
    return graph.double(graph.float(source))


def _link(graph: Graph, raw: str, classes: int) -> str:
    if classes == 2:
        return _both(graph, graph.add("Sigmoid", raw))
    return graph.add("Softmax", raw, axis=1)


def _both(graph: Graph, positive: str) -> str:
    return graph.add("Concat", graph.add("Sub", graph.constant(1.0), positive), positive, axis=1)
