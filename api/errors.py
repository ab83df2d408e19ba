"""From an error to a reply: one table, one shape (`application/problem+json`, RFC 9457).

A problem never holds a value that the client sent, a path of the host or a trace; those are in the server's log.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from flask import Flask, Response, g
from msgspec import UNSET, Struct, UnsetType
from werkzeug.exceptions import HTTPException

from api.faults import Fault
from api.headers import SECURITY_HEADERS
from api.model_server import NoModelError
from api.row_decoder import InvalidOutcomesError, InvalidRowsError, NotJsonError, TooManyRowsError
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

    @property
    def name(self) -> str:
        return self.type.removeprefix(TYPE_PREFIX)


TYPE_PREFIX = "urn:mlops:problem:"


class RefusedError(Exception):
    """A refusal that is a matter of HTTP alone."""

    def __init__(self, status: int, name: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.headers = dict(headers or {})


class Entry(Struct, frozen=True):
    """How one kind of error is answered. `detail` replaces the error's own text where that is for the log only."""

    status: int
    name: str
    detail: str | None = None
    retry_after: int | None = None


TABLE: dict[type[Exception], Entry] = {
    NotJsonError: Entry(400, "not-json"),
    InvalidRowsError: Entry(422, "invalid-rows"),
    InvalidOutcomesError: Entry(422, "invalid-outcomes"),
    TooManyRowsError: Entry(413, "too-many-rows"),
    NoModelError: Entry(503, "no-model", retry_after=5),
    LogError: Entry(503, "not-logged", "it could not be logged, so it is not answered", retry_after=10),
}
HTTP_DETAILS = {
    404: "there is no such route",
    405: "the route does not answer this method; see the Allow header",
}


class Answer(Struct, frozen=True, kw_only=True):
    """A problem and the headers that go with it alone."""

    problem: Problem
    headers: dict[str, str]

    @property
    def status(self) -> int:
        return self.problem.status

    def rendered(self) -> tuple[list[tuple[str, str]], bytes]:
        """All headers and the body, for a reply that no framework finishes."""
        body = msgspec.json.encode(self.problem)
        headers = [("Content-Type", PROBLEM_TYPE), ("Content-Length", str(len(body))), *self.headers.items()]
        if isinstance(self.problem.request_id, str):
            headers.append(("X-Request-ID", self.problem.request_id))
        return [*headers, *SECURITY_HEADERS], body


def answer_to(error: Exception, request_id: str | None) -> Answer:
    """How an error is answered; what the client is not told is written to the server's log."""
    entry = TABLE.get(type(error))
    if entry is not None:
        headers = {"Retry-After": str(entry.retry_after)} if entry.retry_after else {}
        faults = error.faults if isinstance(error, InvalidRowsError) else ()
        return _answer(entry.status, entry.name, entry.detail or str(error), faults, headers, request_id)
    if isinstance(error, RefusedError):
        return _answer(error.status, error.name, str(error), (), error.headers, request_id)
    if isinstance(error, HTTPException):
        return _http(error, request_id)
    logger.error("a request failed", exc_info=error, extra={"request_id": request_id})
    detail = "the service failed; its log has the reason under this request_id"
    return _answer(500, "internal", detail, (), {}, request_id)


def install(app: Flask) -> None:
    """Lets the application answer every error as a problem."""
    app.register_error_handler(Exception, _handle)


def problem(
    status: int, name: str, detail: str, *, errors: tuple[Fault, ...] = (), headers: dict[str, str] | None = None
) -> Response:
    """A problem as Flask's response."""
    return _response(_answer(status, name, detail, errors, headers or {}, g.get("request_id")))


def _handle(error: Exception) -> Response | HTTPException:
    if isinstance(error, HTTPException) and (error.code or 500) < 400:
        return error
    g.error = error
    return _response(answer_to(error, g.get("request_id")))


def _response(answer: Answer) -> Response:
    g.problem = answer.problem.name
    return Response(msgspec.json.encode(answer.problem), answer.status, answer.headers, content_type=PROBLEM_TYPE)


def _answer(
    status: int, name: str, detail: str, faults: tuple[Fault, ...], headers: dict[str, str], request_id: str | None
) -> Answer:
    shown = Problem(
        type=TYPE_PREFIX + name,
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=faults or UNSET,
        request_id=request_id or UNSET,
    )
    return Answer(problem=shown, headers=headers)


def _http(error: HTTPException, request_id: str | None) -> Answer:
    """Werkzeug's own: no route, wrong method, a client that went away."""
    status = error.code or 500
    allow = error.get_response().headers.get("Allow")
    name = HTTPStatus(status).phrase.lower().replace(" ", "-")
    detail = HTTP_DETAILS.get(status, "the request cannot be answered")
    return _answer(status, name, detail, (), {"Allow": allow} if allow else {}, request_id)
