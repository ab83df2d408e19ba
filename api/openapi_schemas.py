"""JSON Schemas of what goes over the wire: the model's own rows, and the replies, from the types that encode them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from api.errors import Problem
from api.faults import has_integer_levels
from api.feedback import Accepted
from api.inference_protocol import Answer, ProtocolError
from api.mlflow_protocol import MlflowError, MlflowReply
from api.model_server import Reply, ServedModel
from api.routes import Health, Readiness
from api.tensors import DATATYPES, InferRequest, datatype_of, datatype_of_classes
from models.schema import Feature, Schema

Json = dict[str, Any]
REPLIES = (Reply, Problem, Health, Readiness, Accepted, MlflowReply, MlflowError, InferRequest, Answer, ProtocolError)
#: Levels that are listed; of a feature with more, the first ones are shown as examples.
LISTED_LEVELS = 200
ID_PATTERN = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
EXAMPLE_ID = "01912d68-783e-7a03-8467-5661c1243ad4"


def schemas(model: ServedModel | None, max_rows: int) -> Json:
    """`components.schemas`; without a model a row is any object."""
    _, components = msgspec.json.schema_components(REPLIES, ref_template="#/components/schemas/{name}")
    row = row_schema(model.schema) if model else {"type": "object", "description": "No model is in service yet."}
    rows = {"type": "array", "items": ref("Row"), "minItems": 1, "maxItems": max_rows}
    components |= {"Row": row, "Rows": rows, "PredictRequest": {"oneOf": [ref("Row"), ref("Rows")]}}
    components |= {"ModelInfo": _model_info(), "InvocationsRequest": _invocations(model)}
    outcomes = {"type": "array", "items": ref("Outcome"), "minItems": 1, "maxItems": max_rows}
    components |= {"Outcome": _outcome(), "FeedbackRequest": {"oneOf": [ref("Outcome"), outcomes]}}
    components["Tensor"]["properties"]["datatype"] = {"enum": list(DATATYPES)}
    if model:
        _name_classes(components, model.schema)
    return components


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def row_schema(schema: Schema) -> Json:
    """One row of the model; what it left out of training may be sent, as anything."""
    ignored = {
        column.name: {"description": f"Accepted and not read: {column.reason}.", "x-ignored": True}
        for column in schema.ignored
        if column.name != schema.target
    }
    return {
        "type": "object",
        "properties": {feature.name: feature_schema(feature) for feature in schema.features} | ignored,
        "required": list(schema.feature_names),
        "additionalProperties": False,
    }


def feature_schema(feature: Feature) -> Json:
    """A feature's values. What is answered with a warning, such as a level unseen in training, is valid here."""
    kinds: dict[str, Json] = {
        "numeric": {"type": "number"},
        "boolean": {"type": "boolean"},
        "datetime": {"type": "string", "format": "date-time"},
        "categorical": {"type": "string"},
    }
    described = kinds[feature.kind]
    if has_integer_levels(feature):
        described = {"type": "integer"}
    if not feature.required:
        described["type"] = [described["type"], "null"]
    described |= {"description": _description(feature), "x-kind": feature.kind, "examples": [example(feature)]}
    if feature.kind == "categorical":
        described |= {"x-categories": list(feature.categories[:LISTED_LEVELS]), "x-levels": len(feature.categories)}
    if feature.kind == "numeric" and feature.range is not None:
        described |= {"x-trained-range": list(feature.range), "x-integer": feature.integer}
    return described


def example(feature: Feature) -> Any:
    """A value from the middle of what training saw."""
    low, high = feature.range or (0.0, 0.0)
    middle = low / 2 + high / 2
    if feature.kind == "boolean":
        return True
    if feature.kind == "categorical":
        return feature.categories[len(feature.categories) // 2] if feature.categories else "text"
    if feature.kind == "datetime":
        return datetime.fromtimestamp(round(middle / 3600) * 3600, UTC).isoformat().replace("+00:00", "Z")
    return round(middle) if feature.integer else float(f"{middle:.4g}")


def example_row(schema: Schema) -> Json:
    return {feature.name: example(feature) for feature in schema.features}


def example_tensors(schema: Schema) -> Json:
    """The same row for the Open Inference Protocol."""
    inputs = [
        {"name": feature.name, "datatype": datatype_of(feature), "shape": [1], "data": [example(feature)]}
        for feature in schema.features
    ]
    return {"inputs": inputs}


EXAMPLES: dict[str, Callable[[Schema], Json]] = {
    "PredictRequest": example_row,
    "InvocationsRequest": lambda schema: {"dataframe_records": [example_row(schema)]},
    "InferRequest": example_tensors,
    "FeedbackRequest": lambda schema: {"prediction_id": EXAMPLE_ID, "actual": schema.classes[0]},
}


def _description(feature: Feature) -> str:
    null = "null is refused" if feature.required else "null is imputed, with a warning"
    if feature.kind == "numeric" and feature.range is not None:
        low, high = feature.range
        return f"Trained on {low:g} to {high:g}; a value outside is answered with a warning; {null}."
    if feature.kind == "categorical":
        return f"{len(feature.categories)} levels in training; another one is answered with a warning; {null}."
    if feature.kind == "datetime":
        return f"ISO 8601; without an offset it is read as UTC; {null}."
    return f"{null.capitalize()}."


def _name_classes(components: Json, schema: Schema) -> None:
    labels = {"enum": list(schema.classes)}
    components["Reply"]["properties"]["prediction"]["items"] = labels
    components["MlflowReply"]["properties"]["predictions"]["items"] = labels
    prediction = f"`prediction` ({datatype_of_classes(schema.classes)}), `probability` (FP64), `prediction_id` (BYTES)"
    components["Answer"]["properties"]["outputs"]["description"] = prediction


def _model_info() -> Json:
    text = {"type": "string"}
    return {
        "type": "object",
        "description": "The manifest of the model in service, and the schema that a row must fit.",
        "properties": {
            "model_name": {"type": "string", "description": "The algorithm."},
            "registered_name": text,
            "version": text,
            "created_at": text,
            "classes": {"type": "array"},
            "metrics": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
            "schema": {
                "type": "object",
                "properties": {
                    name: {"type": "array", "items": {"type": "object"}} for name in ("features", "ignored")
                },
                "required": ["target", "features", "ignored"],
            },
        },
        "required": ["model_name", "version", "classes", "metrics", "schema"],
    }


def _outcome() -> Json:
    """What `/feedback` takes; `actual` may be a class that the model does not know."""
    return {
        "type": "object",
        "properties": {
            "prediction_id": {"type": "string", "pattern": ID_PATTERN},
            "actual": {
                "type": ["string", "integer", "boolean", "null"],
                "description": "The class it turned out to be.",
            },
            "value": {"type": ["number", "null"], "description": "What the outcome was worth."},
            "observed_at": {"type": ["string", "null"], "format": "date-time", "description": "When it was known."},
        },
        "required": ["prediction_id"],
        "additionalProperties": False,
    }


def _invocations(model: ServedModel | None) -> Json:
    """The four forms of MLflow's protocol."""
    names: Json = {"type": "string"}
    columns: Json = {"type": "object", "additionalProperties": {"type": "array"}}
    if model:
        ignored = [column.name for column in model.schema.ignored if column.name != model.schema.target]
        names = {"enum": [*model.schema.feature_names, *ignored]}
        columns |= {"required": list(model.schema.feature_names)}
    split = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": names, "uniqueItems": True},
            "index": {"type": "array"},
            "data": {"type": "array", "items": {"type": "array"}, "minItems": 1},
        },
        "required": ["columns", "data"],
        "additionalProperties": False,
    }
    forms = {
        "dataframe_split": split,
        "dataframe_records": ref("Rows"),
        "instances": ref("Rows"),
        "inputs": {"anyOf": [columns, ref("Rows")]},
    }
    return {
        "oneOf": [
            {"type": "object", "properties": {name: form}, "required": [name], "additionalProperties": False}
            for name, form in forms.items()
        ]
    }
