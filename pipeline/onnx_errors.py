"""The error model as `estimator.onnx`: the basis and the logistic regression on it, in float64 throughout."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from pipeline.error_basis import CLIP, Basis
from pipeline.onnx_graph import Graph


def export_error_model(basis: Basis, model: LogisticRegression, width: int, *, two_classes: bool) -> bytes:
    """Input `X` float32 (rows, `width`), output float32 (rows, 1): the chance that the answer is right."""
    graph = Graph()
    inputs = graph.double("X")
    logit = graph.columns(inputs, [basis.logit])
    raw = _raw(graph, basis, model, logit, _base(graph, basis, inputs))
    if two_classes:  # the model tells the second class: the answer is that one where the logit is above 0
        second = graph.add("Greater", logit, graph.constant(0.0))
        raw = graph.add("Where", second, raw, graph.add("Neg", raw))
    content: bytes = graph.model(graph.add("Sigmoid", raw), width, 1).SerializeToString()
    return content


def _base(graph: Graph, basis: Basis, inputs: str) -> str:
    parts = []
    if len(basis.numbers):
        mean = graph.constant(basis.mean)
        numbers = graph.columns(inputs, basis.numbers)
        known = graph.add("Where", graph.add("IsNaN", numbers), mean, numbers)
        scaled = graph.add("Div", graph.add("Sub", known, mean), graph.constant(basis.scale))
        parts.append(graph.add("Clip", scaled, graph.constant(-CLIP), graph.constant(CLIP)))
    if len(basis.levels):
        codes = graph.columns(inputs, basis.levels)
        parts.append(graph.double(graph.add("Equal", codes, graph.constant(basis.codes))))
    if not parts:
        return graph.columns(inputs, np.empty(0, dtype=np.int64))
    return parts[0] if len(parts) == 1 else graph.add("Concat", *parts, axis=1)


def _raw(graph: Graph, basis: Basis, model: LogisticRegression, logit: str, base: str) -> str:
    """Intercept + logit + base, and the products as a quadratic form: none of them is ever written down."""
    weights = model.coef_[0]
    size = len(basis.numbers) + len(basis.levels)
    linear = graph.add("MatMul", base, graph.constant(weights[1 : 1 + size][:, None]))
    form = np.zeros((size, size))
    form[basis.first, basis.second] = weights[1 + size :]
    twisted = graph.add("Mul", graph.add("MatMul", base, graph.constant(form)), base)
    products = graph.add("ReduceSum", twisted, graph.constant([1], np.int64), keepdims=1)
    sure = graph.add("Mul", logit, graph.constant(weights[0]))
    return graph.add("Sum", sure, linear, products, graph.constant(model.intercept_))
