"""`POST /predict` before Flask's dispatch, as plain WSGI; everything else goes through Flask.

Finding a route, making a request object and a response object cost several times what a prediction does. This is the
same way in short: the same admission, the same core, the same headers. Whatever is refused, and whatever fails, is
handed to Flask with its reason, so that there is one place that makes and counts problems.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from flask import Flask, g, request
from msgspec import Struct

from api.auth import ROUTE_SCOPES
from api.headers import SECURITY_HEADERS
from api.model_server import Reply
from api.requests import JSON_TYPE, json_body_of, request_id_from
from monitoring.ids import uuid7

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication

    from api.routes import Services

PATH = "/predict"
_CARRIED = "mlops.carried"
_SCOPE = ROUTE_SCOPES[PATH]


class Carried(Struct, frozen=True):
    """Why a request was not answered here; it has been admitted and read as far as that went."""

    error: Exception
    request_id: str
    started: float


class HotPath:
    """A WSGI application in front of Flask's. Safe to share between threads."""

    def __init__(self, flask: WSGIApplication, core: Services) -> None:
        self.flask = flask
        self._core = core
        self._most_bytes = core.settings.deployment.max_request_bytes
        self._meter = core.meter(PATH)
        self._encode = msgspec.json.Encoder().encode

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != PATH or environ["REQUEST_METHOD"] != "POST":
            return self.flask(environ, start_response)
        started = time.perf_counter()
        given = environ.get("HTTP_X_REQUEST_ID")
        request_id = request_id_from(given) if given else ""
        try:
            reply = self._answer(environ, request_id, started)
        except Exception as error:
            environ[_CARRIED] = Carried(error, request_id or uuid7(), started)
            return self.flask(environ, start_response)
        body = self._encode(reply)
        ends = [("Content-Length", str(len(body))), ("X-Request-ID", request_id or reply.prediction_id[0])]
        start_response("200 OK", _HEADERS + ends)
        self._meter.end(200, time.perf_counter() - started)
        return [body]

    def _answer(self, environ: dict[str, Any], request_id: str, started: float) -> Reply:
        core = self._core
        core.reloader.ensure_running()
        seen = environ.get
        authorization, host, remote = seen("HTTP_AUTHORIZATION", ""), seen("HTTP_HOST", ""), seen("REMOTE_ADDR", "")
        refusal = core.admission.admit(_SCOPE, authorization, host, remote) or core.limits.enter()
        if refusal is not None:
            raise refusal
        try:
            return core.server.predict(json_body_of(environ, self._most_bytes), request_id, started)
        finally:
            core.limits.leave()


_HEADERS = [("Content-Type", JSON_TYPE), *SECURITY_HEADERS]


def install(app: Flask, core: Services) -> None:
    """Puts the hot path in front of an application; before its blueprints, whose checks it has gone through already."""
    if core.access.wants(200):
        return  # each answer has its line in the access log, which costs as much again
    app.wsgi_app = HotPath(app.wsgi_app, core)  # type: ignore[method-assign]
    app.before_request(_raise_carried)


def _raise_carried() -> None:
    carried: Carried | None = request.environ.get(_CARRIED)
    if carried is not None:
        g.started, g.request_id, g.route = carried.started, carried.request_id, PATH
        raise carried.error
