"""The routes: from a request to the core and back, nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import msgspec
from flask import Blueprint, Response, current_app, g, request
from msgspec import Struct

from api.errors import problem
from api.model_server import ModelServer
from api.reloading import Reloader, ReloadStatus
from api.requests import discard_body, json_body, refuse_foreign_host, request_id_of
from config.settings import Settings

EXTENSION = "mlops"
JSON_TYPE = "application/json"
routes = Blueprint("routes", __name__)


class Services(Struct, frozen=True):
    """What routes work with; one for each application."""

    settings: Settings
    server: ModelServer
    reloader: Reloader


class Health(Struct, frozen=True, kw_only=True):
    status: str
    model_version: str | None
    timestamp: datetime
    reload: ReloadStatus


class Readiness(Struct, frozen=True, kw_only=True):
    status: str
    model_version: str
    timestamp: datetime


def services() -> Services:
    return cast(Services, current_app.extensions[EXTENSION])


@routes.before_app_request
def admit() -> None:
    g.request_id = request_id_of(request)
    if not services().settings.deployment.open_without_keys:
        refuse_foreign_host(request)
    services().reloader.ensure_running()


@routes.after_app_request
def finish(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.get("request_id", "")
    if response.status_code >= 400 and not discard_body(request):
        response.headers["Connection"] = "close"
    return response


@routes.post("/predict")
def predict() -> Response:
    core = services()
    body = json_body(request, core.settings.deployment.max_request_bytes)
    return _json(core.server.predict(body, g.request_id))


@routes.get("/health")
def health() -> Response:
    """200 while the process works, with or without a model."""
    core = services()
    model = core.server.served
    return _json(
        Health(
            status="healthy",
            model_version=model.version if model else None,
            timestamp=core.server.now(),
            reload=core.reloader.status,
        )
    )


@routes.get("/ready")
def ready() -> Response:
    """200 when a prediction would be answered."""
    core = services()
    model = core.server.served
    if model is None:
        reason = core.reloader.status.problem or "no model is in service yet"
        return problem(503, "not-ready", reason, headers={"Retry-After": "5"})
    return _json(Readiness(status="ready", model_version=model.version, timestamp=core.server.now()))


@routes.get("/model_info")
def model_info() -> Response:
    return Response(services().server.current().info, content_type=JSON_TYPE)


def _json(answer: Struct) -> Response:
    return Response(msgspec.json.encode(answer), content_type=JSON_TYPE)
