"""What every request goes through before a route sees it: its id, its content type, its body."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from socket import SHUT_RD
from typing import IO, Any

from flask import Request
from werkzeug.exceptions import ClientDisconnected
from werkzeug.http import parse_options_header
from werkzeug.wsgi import get_input_stream

from api.errors import RefusedError
from config.request_framing import Refused
from monitoring.ids import uuid7

JSON_TYPE = "application/json"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_LONGEST_LENGTH = 18
_CHUNK = 1 << 16
#: A body that is refused is still read up to this size, else the client sees a reset connection and not the reply.
_MOST_DISCARDED = 64 * 2**20


def request_id_from(given: str) -> str:
    """The client's `X-Request-ID` when it is one that a log can carry, else a new one."""
    return given if _REQUEST_ID.fullmatch(given) else uuid7()


@lru_cache(maxsize=64)
def is_json_type(content_type: str) -> bool:
    """Whether a Content-Type header says JSON in UTF-8."""
    mimetype, parameters = parse_options_header(content_type)
    return mimetype.lower() == JSON_TYPE and parameters.get("charset", "utf-8").lower() in ("utf-8", "utf8")


def json_body(request: Request, limit: int) -> bytes:
    """The body of a JSON request; raises `RefusedError` when it is of another type or over `limit` bytes."""
    return json_body_of(request.environ, limit)


def json_body_of(environ: dict[str, Any], limit: int) -> bytes:
    """`json_body` of a WSGI request."""
    if not is_json_type(environ.get("CONTENT_TYPE", "")):
        raise RefusedError(415, "not-json-type", "send Content-Type: application/json, in UTF-8")
    return body_of(environ, limit)


def plain_body(request: Request, limit: int) -> bytes:
    """The body of a request, of whatever type; raises `RefusedError` when it is compressed or over `limit` bytes."""
    return body_of(request.environ, limit)


def body_of(environ: dict[str, Any], limit: int) -> bytes:
    """The body of a WSGI request; raises `RefusedError` when it is compressed, too large, or does not arrive."""
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise RefusedError(415, "content-encoding", "send the body without a Content-Encoding")
    if declared_length(environ) > limit:
        raise _too_large(limit)
    try:
        body = _stream(environ).read(limit + 1)
        if len(body) < declared_length(environ):
            raise ClientDisconnected
    except (TimeoutError, BlockingIOError):
        _give_up(environ)
        raise RefusedError(408, "slow-body", "the body did not arrive in time") from None
    except Refused as refusal:
        raise _broken(environ, refusal, limit) from None
    except Exception:  # each server has errors of its own for a body that is no HTTP
        _give_up(environ)
        raise RefusedError(400, "broken-body", "the body does not arrive as the headers say") from None
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _broken(environ: dict[str, Any], refusal: Refused, limit: int) -> RefusedError:
    """What our worker found wrong with a body while it was read; it ends the connection after the reply."""
    if refusal.status == 413:
        environ["mlops.broken"] = True
        return _too_large(limit)
    _give_up(environ)
    return RefusedError(refusal.status, "broken-body", "the body does not arrive as the headers say")


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, "too-many-bytes", f"a request body may hold up to {limit} bytes")


def discard_body(environ: dict[str, Any]) -> None:
    """Reads what is left of a refused body, or ends the connection when there is more of it than that is worth."""
    left = _MOST_DISCARDED
    if environ.get("mlops.broken"):
        return
    if declared_length(environ) > left:
        _give_up(environ)
        return
    try:
        stream = _stream(environ)
        while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
            left -= len(chunk)
    except Exception:  # as in `body_of`
        left = 0
    if left <= 0:
        _give_up(environ)


def declared_length(environ: dict[str, Any]) -> int:
    """The Content-Length, 0 where there is none; one of more digits than any body has is cut to those."""
    text: str = environ.get("CONTENT_LENGTH") or "0"
    return int(text.lstrip("0")[:_LONGEST_LENGTH] or "0") if text.isascii() and text.isdigit() else 0


def _give_up(environ: dict[str, Any]) -> None:
    """Nothing more is read of this connection: what follows a broken body must not pass for the next request."""
    environ["mlops.broken"] = True
    connection = environ.get("gunicorn.socket")
    if connection is not None:
        with suppress(OSError):
            connection.shutdown(SHUT_RD)


def _stream(environ: dict[str, Any]) -> IO[bytes]:
    """The body, bounded by its declared length also under servers that do not end it."""
    stream: IO[bytes] | None = environ.get("mlops.input")
    if stream is None:
        # gunicorn's own stream reads 1 KB at a time from this one, and copies the rest of the body each time.
        reader = getattr(environ["wsgi.input"], "reader", None)
        stream = environ["mlops.input"] = reader or get_input_stream(environ)
    return stream
