"""From an error to a reply: one table, one shape (`application/problem+json`, RFC 9457).

A problem never holds a value that the client sent, a path of the host or a trace; those are in the server's log.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from flask import Flask, Response, g
from msgspec import UNSET, Struct, UnsetType
from werkzeug.exceptions import HTTPException

from api.faults import Fault
from api.model_server import NoModelError
from api.row_decoder import InvalidRowsError, NotJsonError, TooManyRowsError
from monitoring.prediction_log import LogError

PROBLEM_TYPE = "application/problem+json"
logger = logging.getLogger(__name__)


class Problem(Struct, frozen=True, kw_only=True):
    """`type` is a stable name for programs, `detail` a sentence for people."""

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[Fault, ...] | UnsetType = UNSET
    request_id: str | UnsetType = UNSET


class RefusedError(Exception):
    """A refusal that is a matter of HTTP alone."""

    def __init__(self, status: int, name: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name


class Entry(Struct, frozen=True):
    """How one kind of error is answered. `detail` replaces the error's own text where that is for the log only."""

    status: int
    name: str
    detail: str | None = None
    retry_after: int | None = None


TABLE: dict[type[Exception], Entry] = {
    NotJsonError: Entry(400, "not-json"),
    InvalidRowsError: Entry(422, "invalid-rows"),
    TooManyRowsError: Entry(413, "too-many-rows"),
    NoModelError: Entry(503, "no-model", retry_after=5),
    LogError: Entry(503, "not-logged", "the prediction could not be logged, so it is not given", retry_after=10),
}
HTTP_DETAILS = {
    404: "there is no such route",
    405: "the route does not answer this method; see the Allow header",
}


def install(app: Flask) -> None:
    for kind in TABLE:
        app.register_error_handler(kind, _from_table)
    app.register_error_handler(RefusedError, _refused)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def problem(
    status: int, name: str, detail: str, *, errors: tuple[Fault, ...] = (), headers: dict[str, str] | None = None
) -> Response:
    body = Problem(
        type=f"urn:mlops:problem:{name}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=errors or UNSET,
        request_id=g.get("request_id", UNSET),
    )
    return Response(msgspec.json.encode(body), status, headers, content_type=PROBLEM_TYPE)


def _from_table(error: Exception) -> Response:
    entry = TABLE[type(error)]
    if entry.status >= 500 and entry.detail is not None:
        logger.error("%s", error)
    headers = {"Retry-After": str(entry.retry_after)} if entry.retry_after else None
    errors = error.faults if isinstance(error, InvalidRowsError) else ()
    return problem(entry.status, entry.name, entry.detail or str(error), errors=errors, headers=headers)


def _refused(error: RefusedError) -> Response:
    return problem(error.status, error.name, str(error))


def _http(error: HTTPException) -> Any:
    """Flask's own: no route, wrong method, a client that went away."""
    status = error.code or 500
    if status < 400:
        return error
    allow = error.get_response().headers.get("Allow")
    phrase = HTTPStatus(status).phrase
    detail = HTTP_DETAILS.get(status, "the request cannot be answered")
    return problem(status, phrase.lower().replace(" ", "-"), detail, headers={"Allow": allow} if allow else None)


def _unexpected(error: Exception) -> Response:
    logger.error("a request failed", exc_info=error)
    return problem(500, "internal", "the service failed; its log has the reason under this request_id")
