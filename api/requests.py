"""What every request goes through before a route sees it: its id, its host name, its content type, its body."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import IO

from flask import Request
from werkzeug.http import parse_options_header
from werkzeug.wsgi import get_input_stream

from api.errors import RefusedError
from monitoring.ids import uuid7

JSON_TYPE = "application/json"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
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
    if not is_json_type(request.headers.get("Content-Type", "")):
        raise RefusedError(415, "not-json-type", "send Content-Type: application/json, in UTF-8")
    return plain_body(request, limit)


def plain_body(request: Request, limit: int) -> bytes:
    """The body of a request, of whatever type; raises `RefusedError` when it is compressed or over `limit` bytes."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RefusedError(415, "content-encoding", "send the body without a Content-Encoding")
    too_large = RefusedError(413, "too-many-bytes", f"a request body may hold up to {limit} bytes")
    if (request.content_length or 0) > limit:
        raise too_large
    body = _stream(request).read(limit + 1)
    if len(body) > limit:
        raise too_large
    return body


def discard_body(request: Request) -> bool:
    """Reads what is left of the body; False when there is more than that is worth, and the connection must close."""
    stream, left = _stream(request), _MOST_DISCARDED
    if (request.content_length or 0) > left:
        return False
    while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
        left -= len(chunk)
    return left > 0


def _stream(request: Request) -> IO[bytes]:
    """The body, bounded by its declared length also under servers that do not end it."""
    stream: IO[bytes] | None = request.environ.get("mlops.input")
    if stream is None:
        stream = request.environ["mlops.input"] = get_input_stream(request.environ)
    return stream
