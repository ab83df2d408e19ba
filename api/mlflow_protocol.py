"""The MLflow scoring protocol: a thin shell around the core, with the validation and the log of `/predict`.

`POST /invocations` takes JSON with exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`.
Errors have MLflow's shape, `{"error_code", "message"}`, and the status that `/predict` would give.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from typing import Any

from flask import Blueprint, Response, g, request
from msgspec import UNSET, Struct, UnsetType

from api.column_rows import name_faults, refuse_any, rows_of_columns
from api.error_shapes import reshape, sentence
from api.errors import Problem
from api.faults import ABSENT, UNKNOWN, Fault, child, json_type
from api.model_server import Reply
from api.requests import JSON_TYPE, json_body
from api.routes import json_response, not_ready, services
from api.row_decoder import InvalidRowsError
from models.row_warnings import RowWarning
from models.schema import ClassLabel, Schema

PATHS = ("/invocations", "/ping", "/version")
#: The release that brought the protocol's present form, told where MLflow is not installed.
FIRST_VERSION = "2.0.0"
#: MLflow's names for the statuses of ours.
ERROR_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "ENDPOINT_NOT_FOUND",
    422: "INVALID_PARAMETER_VALUE",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}
mlflow_protocol = Blueprint("mlflow_protocol", __name__)


class MlflowReply(Struct, frozen=True, kw_only=True):
    """`predictions` is what MLflow's clients read; beside it stands what `/predict` answers."""

    predictions: list[ClassLabel]
    probability: list[list[float]]
    classes: tuple[ClassLabel, ...]
    prediction_id: list[str]
    model_name: str
    model_version: str
    timestamp: datetime
    warnings: list[RowWarning] | UnsetType = UNSET


class MlflowError(Struct, frozen=True, kw_only=True):
    error_code: str
    message: str
    errors: tuple[Fault, ...] | UnsetType = UNSET
    request_id: str | UnsetType = UNSET


@mlflow_protocol.post("/invocations")
def invocations() -> Response:
    started = time.perf_counter()
    core = services()
    body = json_body(request, core.settings.deployment.max_request_bytes)
    model = core.server.current()
    rows = model.decoder.validate(table_rows(model.schema, model.decoder.document(body)))
    reply = core.server.answer(model, rows, g.request_id, started)
    return json_response(_reply(reply))


@mlflow_protocol.get("/ping")
def ping() -> Response:
    """200 when a prediction would be answered, as MLflow's own server has it; `/health` is for the process."""
    core = services()
    if core.server.served is None:
        return not_ready(core)
    return Response("\n", content_type=JSON_TYPE)


@mlflow_protocol.get("/version")
def version() -> Response:
    return Response(_mlflow_version(), content_type="text/plain; charset=utf-8")


@mlflow_protocol.after_app_request
def in_mlflows_words(response: Response) -> Response:
    return reshape(response, _error) if request.path in PATHS else response


def table_rows(schema: Schema, document: Any) -> list[Any]:
    """The rows of a decoded body, their values not yet checked; raises `InvalidRowsError`."""
    if not isinstance(document, dict):
        raise InvalidRowsError([Fault("$", f"expected an object with one of {', '.join(_FORMS)}", json_type(document))])
    refuse_any(_envelope_faults(document))
    name = next(name for name in document if name in _FORMS)
    return _FORMS[name](schema, document[name], f"$.{name}")


def _envelope_faults(document: dict[str, Any]) -> Iterator[Fault]:
    if len(document.keys() & _FORMS.keys()) != 1:
        yield Fault("$", f"expected exactly one of {', '.join(_FORMS)}", "object")
    for name, value in document.items():
        if name == "params" and value:
            yield Fault("$.params", "this model takes no params", json_type(value))
        elif name != "params" and name not in _FORMS:
            yield Fault(child("$", name), UNKNOWN, json_type(value))


def _split(schema: Schema, table: Any, path: str) -> list[Any]:
    """`{"columns": [...], "data": [[...]]}`; an index is read over."""
    if not isinstance(table, dict):
        raise InvalidRowsError([Fault(path, "expected an object with columns and data", json_type(table))])
    refuse_any(_split_faults(table, path))
    columns: list[str] = table["columns"]
    refuse_any(name_faults(schema, columns, f"{path}.columns", "string"))
    return [dict(zip(columns, values, strict=True)) for values in table["data"]]


def _split_faults(table: dict[str, Any], path: str) -> Iterator[Fault]:
    columns, data = table.get("columns"), table.get("data")
    for name in table.keys() - {"columns", "data", "index"}:
        yield Fault(child(path, name), UNKNOWN, json_type(table[name]))
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        yield Fault(f"{path}.columns", "expected a list of names", _type_or_absent(table, "columns"))
    elif len(set(columns)) < len(columns):
        yield Fault(f"{path}.columns", "expected each name once", "array")
    if not isinstance(data, list):
        yield Fault(f"{path}.data", "expected a list of rows", _type_or_absent(table, "data"))
    elif isinstance(columns, list):
        for index, values in enumerate(data):
            if not isinstance(values, list) or len(values) != len(columns):
                yield Fault(f"{path}.data[{index}]", f"expected a list of {len(columns)} values", json_type(values))


def _records(table: Any, path: str) -> list[Any]:
    """`[{…}, …]`. Lists of values are refused: which value belongs to which feature would be a guess."""
    if not isinstance(table, list):
        raise InvalidRowsError([Fault(path, "expected a list of objects", json_type(table))])
    return table


def _inputs(schema: Schema, table: Any, path: str) -> list[Any]:
    """`{"age": [41, 17], …}`, the same with one value each, or records."""
    if not isinstance(table, dict):
        return _records(table, path)
    if table and not any(isinstance(value, list) for value in table.values()):
        return [table]
    return rows_of_columns(schema, table, path)


_FORMS: dict[str, Callable[[Schema, Any, str], list[Any]]] = {
    "dataframe_split": _split,
    "dataframe_records": lambda _, table, path: _records(table, path),
    "instances": lambda _, table, path: _records(table, path),
    "inputs": _inputs,
}


def _type_or_absent(table: dict[str, Any], name: str) -> str:
    return json_type(table[name]) if name in table else ABSENT


def _reply(reply: Reply) -> MlflowReply:
    return MlflowReply(
        predictions=reply.prediction,
        probability=reply.probability,
        classes=reply.classes,
        prediction_id=reply.prediction_id,
        model_name=reply.model_name,
        model_version=reply.model_version,
        timestamp=reply.timestamp,
        warnings=reply.warnings,
    )


def _error(problem: Problem) -> MlflowError:
    return MlflowError(
        error_code=ERROR_CODES.get(problem.status, "BAD_REQUEST"),
        message=sentence(problem),
        errors=problem.errors,
        request_id=problem.request_id,
    )


@cache
def _mlflow_version() -> str:
    try:
        return importlib.metadata.version("mlflow-skinny")
    except importlib.metadata.PackageNotFoundError:
        return FIRST_VERSION
