"""The routes: from a request to the core and back; and what every request passes on its way in and out."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import msgspec
from flask import Blueprint, Response, current_app, g, request
from msgspec import Struct

from api.access_log import LONGEST_METHOD, LONGEST_PATH, AccessLine, AccessLog
from api.auth import ROUTE_SCOPES, UNMATCHED, Admission
from api.errors import problem
from api.feedback import FeedbackLog
from api.guarded_log import GuardedLog, Outage
from api.headers import SECURITY_HEADERS
from api.limits import Limits
from api.metrics import FEEDBACK, TEXT_TYPE, Metrics, RouteMeter
from api.model_server import ModelServer, ServedModel
from api.refusal_log import RefusalMeter
from api.reloading import Reloader, ReloadStatus
from api.requests import JSON_TYPE, discard_body, json_body, request_id_from
from api.row_decoder import InvalidOutcomesError, InvalidRowsError
from api.server_usage import UsageMeter
from config.settings import Settings
from models.schema import Schema
from monitoring.prediction_log import PredictionLog

EXTENSION = "mlops"
routes = Blueprint("routes", __name__)


class Services(Struct, frozen=True, kw_only=True):
    """What routes work with; one for each application."""

    settings: Settings
    server: ModelServer
    reloader: Reloader
    metrics: Metrics
    admission: Admission
    limits: Limits
    feedback: FeedbackLog
    access: AccessLog
    usage: UsageMeter
    refusals: RefusalMeter
    meters: dict[str, RouteMeter] = {}

    def meter(self, route: str) -> RouteMeter:
        found = self.meters.get(route)
        return found or self.meters.setdefault(route, self.metrics.route(route))


def make_services(settings: Settings, registry: Path, logs: Path, clock: Callable[[], datetime]) -> Services:
    """Everything that one application works with; nothing of it starts a thread or shares memory yet.

    Raises `PolicyError` when a field is to be hashed in the log, and there is no key to do it with.
    """
    metrics, admission = Metrics(), Admission(settings)
    log = GuardedLog(PredictionLog(logs, fsync=settings.logging.fsync), settings, metrics)
    server = ModelServer(log, clock=clock, answered=metrics.answered)

    usage, refusals = UsageMeter(metrics.counters, logs, clock), RefusalMeter(logs, clock)

    def prepare() -> None:
        metrics.attach()
        atexit.register(usage.close)  # before the counters are given up: the last registered is called first
        atexit.register(refusals.close)
        admission.attach()

    def tick() -> None:
        refusals.tick()
        usage.tick()

    def observe(status: ReloadStatus, model: ServedModel | None) -> None:
        metrics.reloaded(status, model.name if model else "", model.version if model else None)

    most_rows = settings.deployment.max_prediction_batch_size
    return Services(
        settings=settings,
        server=server,
        reloader=Reloader(server, registry, most_rows, prepare=prepare, observe=observe, tick=tick),
        metrics=metrics,
        admission=admission,
        limits=Limits(settings, metrics),
        feedback=FeedbackLog(logs, Outage(metrics, "feedback", "refused"), fsync=settings.logging.fsync),
        access=AccessLog(settings, logs, lambda: metrics.log_failed("access", "served")),
        usage=usage,
        refusals=refusals,
    )


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
    g.started = time.perf_counter()
    g.request_id = request_id_from(request.headers.get("X-Request-ID", ""))
    g.route = request.url_rule.rule if request.url_rule else UNMATCHED
    core = services()
    core.reloader.ensure_running()
    environ = request.environ
    scope = ROUTE_SCOPES.get(g.route, "admin")
    host, remote = environ.get("HTTP_HOST", ""), environ.get("REMOTE_ADDR", "")
    refusal = core.admission.admit(scope, environ.get("HTTP_AUTHORIZATION", ""), host, remote)
    if refusal is None and scope is not None:  # what is open to all must answer a health check on the busiest day
        refusal = core.limits.enter()
        g.entered = refusal is None
    if refusal is not None:
        raise refusal


@routes.after_app_request
def finish(response: Response) -> Response:
    for name, value in SECURITY_HEADERS:
        response.headers.setdefault(name, value)
    response.headers["X-Request-ID"] = g.get("request_id", "")
    if response.status_code >= 400:
        discard_body(request.environ)
    return response


@routes.teardown_app_request
def leave(_: BaseException | None) -> None:
    if g.pop("entered", False):
        services().limits.leave()


@routes.after_app_request
def account(response: Response) -> Response:
    """Counts the reply, and gives it its line in the access log."""
    core, seconds, name = services(), time.perf_counter() - g.started, g.get("problem")
    core.meter(g.route).end(response.status_code, seconds)
    if name is not None:
        _note_refusal(core, name, g.get("error"))
    if core.access.wants(response.status_code):
        core.access.note(
            AccessLine(
                timestamp=core.server.now(),
                request_id=g.request_id,
                remote=request.environ.get("REMOTE_ADDR", ""),
                method=request.method[:LONGEST_METHOD],
                path=request.path[:LONGEST_PATH],
                status=response.status_code,
                milliseconds=round(seconds * 1000.0, 3),
                problem=name or msgspec.UNSET,
            )
        )
    return response


def _note_refusal(core: Services, name: str, error: Exception | None) -> None:
    """Counts a request that was answered with a problem, and its rows where these were at fault."""
    model = core.server.served
    core.metrics.problem(name, error, model.schema if model is not None else None)
    if model is not None and isinstance(error, InvalidRowsError) and not isinstance(error, InvalidOutcomesError):
        core.refusals.note(model.version, error.faults, model.schema.feature_names)


@routes.post("/predict")
def predict() -> Response:
    core = services()
    body = json_body(request, core.settings.deployment.max_request_bytes)
    return json_response(core.server.predict(body, g.request_id))


@routes.post("/feedback")
def feedback() -> Response:
    """202: what was sent is in the log, and is joined to its predictions later."""
    core = services()
    deployment = core.settings.deployment
    body = json_body(request, deployment.max_request_bytes)
    most = deployment.max_prediction_batch_size
    accepted = core.feedback.accept(body, most, current_schema(), g.request_id, core.server.now())
    core.metrics.count(FEEDBACK, times=accepted.accepted)
    return json_response(accepted, 202)


@routes.get("/health")
def health() -> Response:
    """200 while the process works, with or without a model."""
    core = services()
    model = core.server.served
    return json_response(
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
        return not_ready(core)
    return json_response(Readiness(status="ready", model_version=model.version, timestamp=core.server.now()))


@routes.get("/model_info")
def model_info() -> Response:
    return Response(services().server.current().info, content_type=JSON_TYPE)


@routes.get("/metrics")
def metrics() -> Response:
    """For Prometheus, over all workers."""
    return Response(services().metrics.text(), content_type=TEXT_TYPE)


def not_ready(core: Services) -> Response:
    """503: why no model is in service."""
    reason = core.reloader.status.problem or "no model is in service yet"
    return problem(503, "not-ready", reason, headers={"Retry-After": "5"})


def current_schema() -> Schema | None:
    model = services().server.served
    return model.schema if model is not None else None


def json_response(answer: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, content_type=JSON_TYPE)
