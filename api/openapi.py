"""The OpenAPI 3.1 document of the running service: its routes, and its model's own fields.

`OPERATIONS` says what each route is for; a test holds it to the routes that the application has.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec import Struct

from api.auth import ROUTE_SCOPES
from api.errors import PROBLEM_TYPE
from api.inference_protocol import BINARY_TYPE, JSON_LENGTH
from api.model_server import ServedModel
from api.openapi_schemas import EXAMPLES, Json, ref, schemas
from api.requests import JSON_TYPE
from config import product

STATUSES = {
    400: "The body is not JSON.",
    401: "A key is needed, and none that is known was sent.",
    403: "The key is not for this route, or the host name is not this machine's.",
    404: "There is no such model or version.",
    408: "The body did not arrive in time.",
    413: "Too many rows, or too many bytes.",
    415: "Another content type than this route takes.",
    422: "What was sent does not fit the model; every fault is named, up to 20.",
    429: "Too many requests; Retry-After says when to come back.",
    500: "A fault of the service; its log has the reason under the request id.",
    503: "No model is in service, the answer could not be logged, or the service is busy; see Retry-After.",
}
#: On every route; and where a key is asked for, or would be.
ALWAYS = (403, 500, 503)
ADMITTED = (429,)
BODY = (400, 408, 413, 415, 422)
TAGS = {
    "Predictions": "Answers of the model in service.",
    "Feedback": "Outcomes, once they are known.",
    "Service": "How the service and its model are.",
    "MLflow": "The scoring protocol of MLflow's clients.",
    "Open Inference": "The protocol of Triton's and KServe's clients, version 2.",
    "Documentation": "This description.",
}


class Operation(Struct, frozen=True, kw_only=True):
    """One route. `answer` and `body` are schemas by name, or None; `failure` is the shape of its errors."""

    method: str
    path: str
    tag: str
    summary: str
    description: str = ""
    success: int = 200
    body: str | None = None
    answer: str | None = None
    content: str = JSON_TYPE
    failures: tuple[int, ...] = ()
    failure: str = "Problem"


def _infer(path: str, summary: str) -> Operation:
    return Operation(
        method="post",
        path=path,
        tag="Open Inference",
        summary=summary,
        description="Each feature is an input by its name, `[rows]` or `[rows, 1]`; raw tensors are sent behind the "
        f"JSON, whose length `{JSON_LENGTH}` then gives.",
        body="InferRequest",
        answer="Answer",
        failures=(404, *BODY),
        failure="ProtocolError",
    )


def _v2(path: str, summary: str, *failures: int) -> Operation:
    return Operation(
        method="get", path=path, tag="Open Inference", summary=summary, failures=failures, failure="ProtocolError"
    )


OPERATIONS = (
    Operation(
        method="post",
        path="/predict",
        tag="Predictions",
        summary="Answer one row, or a list of rows",
        description="Every answer is in the log before it is given. Missing values, categories that training did not "
        "see and values outside the trained range are answered with a warning.",
        body="PredictRequest",
        answer="Reply",
        failures=BODY,
    ),
    Operation(
        method="post",
        path="/feedback",
        tag="Feedback",
        summary="Tell the outcome of predictions",
        description="One outcome or a list, each by the `prediction_id` of its answer. Sending one twice changes "
        "nothing; of several for one prediction the last counts.",
        body="FeedbackRequest",
        answer="Accepted",
        success=202,
        failures=BODY,
    ),
    Operation(
        method="get",
        path="/health",
        tag="Service",
        summary="Is the process alive",
        description="200 with or without a model; `reload` says whether the newest plan is in service.",
        answer="Health",
    ),
    Operation(
        method="get",
        path="/ready",
        tag="Service",
        summary="Would a prediction be answered",
        answer="Readiness",
    ),
    Operation(
        method="get",
        path="/model_info",
        tag="Service",
        summary="The model in service, its metrics and its fields",
        answer="ModelInfo",
    ),
    Operation(
        method="get",
        path="/metrics",
        tag="Service",
        summary="Metrics over all workers, for Prometheus",
        content="text/plain",
    ),
    Operation(
        method="post",
        path="/invocations",
        tag="MLflow",
        summary="Answer rows in one of MLflow's four JSON forms",
        body="InvocationsRequest",
        answer="MlflowReply",
        failures=BODY,
        failure="MlflowError",
    ),
    Operation(
        method="get",
        path="/ping",
        tag="MLflow",
        summary="Would a prediction be answered",
        failure="MlflowError",
    ),
    Operation(
        method="get",
        path="/version",
        tag="MLflow",
        summary="The release of MLflow",
        content="text/plain",
        failure="MlflowError",
    ),
    _v2("/v2", "The server and its extensions"),
    _v2("/v2/health/live", "Is the process alive"),
    _v2("/v2/health/ready", "Would a prediction be answered"),
    _v2("/v2/models/{name}", "The model's inputs and outputs", 404),
    _v2("/v2/models/{name}/versions/{version}", "The same for one version", 404),
    _v2("/v2/models/{name}/ready", "Is this model in service", 404),
    _v2("/v2/models/{name}/versions/{version}/ready", "Is this version in service", 404),
    _infer("/v2/models/{name}/infer", "Answer tensors"),
    _infer("/v2/models/{name}/versions/{version}/infer", "Answer tensors, by this version or not at all"),
    Operation(method="get", path="/openapi.json", tag="Documentation", summary="This description, for programs"),
    Operation(
        method="get",
        path="/docs",
        tag="Documentation",
        summary="This description, for people",
        content="text/html",
    ),
)


def openapi(model: ServedModel | None, routes: Collection[tuple[str, str]], max_rows: int, *, keys: bool) -> Json:
    """The document for `routes`, pairs of method and path; `keys` says whether requests need one."""
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        if (operation.method, operation.path) in routes:
            paths.setdefault(operation.path, {})[operation.method] = _described(operation, model, keys)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": model.name if model else product.NAME,
            "version": model.version if model else "0",
            "summary": "Predictions of the model in service, with every answer logged.",
            "x-product": {"name": product.NAME, "version": product.VERSION},
        },
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas(model, max_rows),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(operation: Operation, model: ServedModel | None, keys: bool) -> Json:
    scope = ROUTE_SCOPES.get(operation.path.translate(str.maketrans("{}", "<>")), "admin")
    described: Json = {
        "operationId": f"{operation.method}{operation.path}".translate(str.maketrans("/.{}", "____")),
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": {str(operation.success): _success(operation)} | _failures(operation, scope, keys),
    }
    if operation.description:
        described["description"] = operation.description
    if parameters := _parameters(operation.path, model):
        described["parameters"] = parameters
    if operation.body:
        content: Json = {"schema": ref(operation.body)}
        if model and operation.body in EXAMPLES:
            content["example"] = EXAMPLES[operation.body](model.schema)
        described["requestBody"] = {"required": True, "content": {JSON_TYPE: content}}
    if scope:
        described["x-scope"] = scope
        described["security"] = [{"key": []}] if keys else []
    return described


def _success(operation: Operation) -> Json:
    content: Json = {}
    if operation.answer:
        content["schema"] = ref(operation.answer)
    answers = {operation.content: content}
    if operation.answer == "Answer":
        answers[BINARY_TYPE] = {}
    return {"description": "Done.", "content": answers}


def _failures(operation: Operation, scope: str | None, keys: bool) -> Json:
    kind = PROBLEM_TYPE if operation.failure == "Problem" else JSON_TYPE
    always = [*ALWAYS, *(ADMITTED if scope else ()), *((401,) if scope and keys else ())]
    return {
        str(status): {"description": STATUSES[status], "content": {kind: {"schema": ref(operation.failure)}}}
        for status in sorted({*always, *operation.failures})
    }


def _parameters(path: str, model: ServedModel | None) -> list[dict[str, Any]]:
    in_service = {"name": model.name, "version": model.version} if model else {}
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string"},
            "example": in_service.get(name, ""),
        }
        for name in ("name", "version")
        if f"{{{name}}}" in path
    ]
