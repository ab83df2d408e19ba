"""The OpenAPI 3.1 document of the running service: its routes, and its model's own fields.

`OPERATIONS` says what each route is for; a test holds it to the routes that the application has.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from msgspec import Struct

from api.errors import PROBLEM_TYPE
from api.inference_protocol import BINARY_TYPE, JSON_LENGTH
from api.model_server import ServedModel
from api.openapi_schemas import Json, ref, schemas
from api.routes import JSON_TYPE
from config import product

Scope = Literal["predict", "feedback", "read"]
STATUSES = {
    400: "The body is not JSON.",
    401: "A key is needed, and none that is known was sent.",
    403: "The key is not for this route, or the host name is not this machine's.",
    404: "There is no such model or version.",
    413: "Too many rows, or too many bytes.",
    415: "Another content type than this route takes.",
    422: "What was sent does not fit the model; every fault is named, up to 20.",
    429: "Too many requests; Retry-After says when to come back.",
    500: "A fault of the service; its log has the reason under the request id.",
    503: "No model is in service, the answer could not be logged, or the service is busy; see Retry-After.",
}
ALWAYS = (401, 403, 429, 500)
BODY = (400, 413, 415, 422, 503)
TAGS = {
    "predict": "Answers of the model in service.",
    "feedback": "Outcomes, once they are known.",
    "service": "How the service and its model are.",
    "mlflow": "The MLflow scoring protocol.",
    "inference": "The Open Inference Protocol v2.",
    "documentation": "This description.",
}


class Operation(Struct, frozen=True, kw_only=True):
    """One route. `answer` and `body` are schemas by name, or None for text; `failure` is the shape of its errors."""

    method: str
    path: str
    tag: str
    summary: str
    description: str = ""
    scope: Scope | None = "read"
    body: str | None = None
    answer: str | None = None
    content: str = JSON_TYPE
    failures: tuple[int, ...] = ()
    failure: str = "Problem"


def _infer(path: str, summary: str) -> Operation:
    return Operation(
        method="post",
        path=path,
        tag="inference",
        summary=summary,
        description="Each feature is an input by its name, `[rows]` or `[rows, 1]`; raw tensors are sent behind the "
        f"JSON, whose length `{JSON_LENGTH}` then gives.",
        scope="predict",
        body="InferRequest",
        answer="Answer",
        failures=(404, *BODY),
        failure="ProtocolError",
    )


def _v2(path: str, summary: str, *failures: int) -> Operation:
    return Operation(
        method="get", path=path, tag="inference", summary=summary, failures=failures, failure="ProtocolError"
    )


OPERATIONS = (
    Operation(
        method="post",
        path="/predict",
        tag="predict",
        summary="Answer one row, or a list of rows",
        description="Every answer is in the log before it is given. Missing values, categories that training did not "
        "see and values outside the trained range are answered with a warning.",
        scope="predict",
        body="PredictRequest",
        answer="Reply",
        failures=BODY,
    ),
    Operation(
        method="post",
        path="/feedback",
        tag="feedback",
        summary="Tell the outcome of predictions",
        description="One outcome or a list, each by the `prediction_id` of its answer. Sending one twice changes "
        "nothing; of several for one prediction the last counts.",
        scope="feedback",
        body="FeedbackRequest",
        answer="FeedbackReply",
        failures=BODY,
    ),
    Operation(
        method="get",
        path="/health",
        tag="service",
        summary="Is the process alive",
        description="200 with or without a model; `reload` says whether the newest plan is in service.",
        scope=None,
        answer="Health",
    ),
    Operation(
        method="get",
        path="/ready",
        tag="service",
        summary="Would a prediction be answered",
        scope=None,
        answer="Readiness",
        failures=(503,),
    ),
    Operation(
        method="get",
        path="/model_info",
        tag="service",
        summary="The model in service, its metrics and its fields",
        answer="ModelInfo",
        failures=(503,),
    ),
    Operation(
        method="get",
        path="/metrics",
        tag="service",
        summary="Metrics over all workers, for Prometheus",
        content="text/plain",
    ),
    Operation(
        method="post",
        path="/invocations",
        tag="mlflow",
        summary="Answer rows in one of MLflow's four JSON forms",
        scope="predict",
        body="InvocationsRequest",
        answer="Scores",
        failures=BODY,
        failure="MlflowError",
    ),
    Operation(
        method="get",
        path="/ping",
        tag="mlflow",
        summary="Would a prediction be answered",
        scope=None,
        answer="",
        failures=(503,),
        failure="MlflowError",
    ),
    Operation(
        method="get",
        path="/version",
        tag="mlflow",
        summary="The release of MLflow",
        scope=None,
        content="text/plain",
        failure="MlflowError",
    ),
    _v2("/v2", "The server and its extensions"),
    _v2("/v2/health/live", "Is the process alive"),
    _v2("/v2/health/ready", "Would a prediction be answered", 503),
    _v2("/v2/models/{name}", "The model's inputs and outputs", 404, 503),
    _v2("/v2/models/{name}/versions/{version}", "The same for one version", 404, 503),
    _v2("/v2/models/{name}/ready", "Is this model in service", 404, 503),
    _v2("/v2/models/{name}/versions/{version}/ready", "Is this version in service", 404, 503),
    _infer("/v2/models/{name}/infer", "Answer tensors"),
    _infer("/v2/models/{name}/versions/{version}/infer", "Answer tensors, by this version or not at all"),
    Operation(
        method="get", path="/openapi.json", tag="documentation", summary="This description, for programs", answer=""
    ),
    Operation(
        method="get",
        path="/docs",
        tag="documentation",
        summary="This description, for people",
        scope=None,
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
    described: Json = {
        "operationId": f"{operation.method}{operation.path}".translate(str.maketrans("/.{}", "____")),
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": {"200": _success(operation)} | _failures(operation, keys),
    }
    if operation.description:
        described["description"] = operation.description
    if parameters := _parameters(operation.path, model):
        described["parameters"] = parameters
    if operation.body:
        described["requestBody"] = {"required": True, "content": {JSON_TYPE: {"schema": ref(operation.body)}}}
    if operation.scope:
        described["x-scope"] = operation.scope
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


def _failures(operation: Operation, keys: bool) -> Json:
    kind = PROBLEM_TYPE if operation.failure == "Problem" else JSON_TYPE
    always = ALWAYS if keys and operation.scope else (403, 429, 500)
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
